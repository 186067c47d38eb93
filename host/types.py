"""The values that cross the house: layers, graphs and evaluations; no torch, no TVM, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

LayerKind = Literal["conv", "linear"]
Provenance = Literal["measured", "cached", "predicted"]
AccuracySource = Literal["measured", "cached", "expected"]


@dataclass(frozen=True, slots=True)
class Source:
    """Some of a layer's input channels; they shrink with group `group` ('' means never)."""

    group: str
    channels: int


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution or linear layer of the uncompressed network.

    `positions` is the number of output positions per sample: height x width, or tokens.
    `group` names the coupled channel group that fixes the output channels ('' when they may not be
    pruned); a group is named after its first layer, the *driver*, the only one that decides.
    """

    name: str
    kind: LayerKind
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int
    out_size: tuple[int, int]
    params: int
    group: str
    sources: tuple[Source, ...]

    @property
    def positions(self) -> int:
        """Output positions per sample."""
        return self.out_size[0] * self.out_size[1]

    @property
    def is_driver(self) -> bool:
        """Whether a policy decides this layer's width (the others of the group follow)."""
        return bool(self.group) and self.group == self.name

    @property
    def depthwise(self) -> bool:
        """Whether every channel is convolved with itself alone."""
        return self.groups > 1 and self.groups == self.in_channels == self.out_channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample, uncompressed."""
        return self.macs_with(self.in_channels, self.out_channels)

    def macs_with(self, in_channels: int, out_channels: int) -> int:
        """Multiply-accumulates per sample at these widths."""
        per_output = 1 if self.depthwise else in_channels // self.groups
        return self.positions * self.kernel[0] * self.kernel[1] * per_output * out_channels


@dataclass(frozen=True, slots=True)
class Graph:
    """The layers of a network in order of execution, its input shape (C, H, W) and its classes.

    `steps` gives, for groups whose channels must go several at once (attention heads), how many.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    layers: tuple[Layer, ...]
    steps: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    @property
    def drivers(self) -> tuple[Layer, ...]:
        """The layers whose width is a decision."""
        return tuple(layer for layer in self.layers if layer.is_driver)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample of all layers."""
        return sum(layer.macs for layer in self.layers)

    def in_channels(self, layer: Layer, keep: Mapping[str, int]) -> int:
        """Input channels that remain when group drivers keep `keep[driver]` output channels."""
        total = 0
        for source in layer.sources:
            full = self[source.group].out_channels if source.group else 1
            kept = keep.get(source.group, full) if source.group else 1
            total += source.channels * kept // full
        return total

    def out_channels(self, layer: Layer, keep: Mapping[str, int]) -> int:
        """Output channels that remain; a follower keeps its driver's share."""
        if not layer.group or layer.group not in keep:
            return layer.out_channels
        return layer.out_channels * keep[layer.group] // self[layer.group].out_channels

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Graph:
        """Read the JSON form."""
        layers = tuple(
            Layer(
                **{
                    **raw,
                    **{k: tuple(raw[k]) for k in ("kernel", "stride", "padding", "out_size")},
                    "sources": tuple(Source(**s) for s in raw["sources"]),
                }
            )
            for raw in data["layers"]
        )
        c, h, w = data["input_shape"]
        return cls(data["name"], (c, h, w), data["classes"], layers, dict(data["steps"]))


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with where it came from; `low` and `high` bound a 95 % interval."""

    value: float
    source: Provenance
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is known of one policy, all of the same program.

    `accuracy` is a fraction in [0, 1] over `samples` images of `split`; `latency_ms` is per
    inference of one sample; `size_bytes` counts the packed weights, scales and tables; `bops` is
    MACs x weight bits x activation bits. `measurements` names the raw records behind the figures.
    Where the count was stopped early, `samples` is what was counted. `accuracy_source` is "cached"
    where an earlier evaluation of the same policy, network and settings had counted all of it, and
    "expected" where it is no count (host.marking).
    """

    accuracy: float
    samples: int
    split: Literal["train", "validation", "test"]
    macs: int
    bops: int
    size_bytes: int
    latency_ms: Figure | None = None
    energy_mj: Figure | None = None
    artifact: str = ""
    measurements: tuple[str, ...] = ()
    verdict: str = ""
    seconds: float = 0.0
    accuracy_source: AccuracySource = "measured"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """Read the JSON form."""
        values = dict(data)
        for name in ("latency_ms", "energy_mj"):
            if values.get(name) is not None:
                values[name] = Figure(**values[name])
        values["measurements"] = tuple(values.get("measurements", ()))
        return cls(**values)
