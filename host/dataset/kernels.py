"""Single layers as programs: convolutions, depthwise and linear layers in any number format."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from host.artifact import Artifact
from host.dataset.spaces import Program, Row, Spec
from host.errors import RecipeError
from host.lower.build import Builder
from host.lower.objects import ObjectCache
from host.lower.program import Node, View
from host.lower.program import Program as Operations
from host.lower.targets import Target, refusal
from host.policy import FULL_BITS, INT8_BITS, LayerPolicy, Mode, Policy, program_digest
from host.registry import check_name
from host.types import Graph, Layer

LAYER = "layer"
KINDS = ("conv", "depthwise", "dense")
FORMATS: tuple[Mode, ...] = ("fp32", "int8", "mix")
# Steps of a grid between the least and the largest of a range.
GRID_STEPS = 5
# A draw that the kernels refuse, or that is too large, is drawn again so often.
ATTEMPTS = 10_000


@dataclass(frozen=True, slots=True)
class KernelRanges:
    """`[kernels]` of a dataset's recipe; ranges are least and largest, drawn evenly in logarithms.

    `size` is the height and width of inputs, and the tokens of linear layers; layers of more than
    `max_mmacs` million multiply-accumulates are left out.
    """

    kinds: tuple[str, ...] = KINDS
    formats: tuple[str, ...] = ("fp32", "int8", "mix")
    channels: tuple[int, ...] = (8, 512)
    size: tuple[int, ...] = (4, 56)
    kernel: tuple[int, ...] = (1, 3, 5)
    stride: tuple[int, ...] = (1, 2)
    bits: tuple[int, ...] = (1, 6)
    round_to: int = 8
    max_mmacs: float = 200.0

    def __post_init__(self) -> None:
        for name, known in (("kinds", KINDS), ("formats", FORMATS)):
            for value in getattr(self, name):
                check_name(f"kernels.{name}", value, known)
        for name in ("channels", "size", "bits"):
            values = getattr(self, name)
            if len(values) != 2 or not 1 <= values[0] <= values[1]:
                raise RecipeError(f"kernels.{name}: give the least and the largest, got {values}")
        if not (self.kinds and self.formats and self.kernel and self.stride):
            raise RecipeError("kernels: kinds, formats, kernel and stride must name something")


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """One layer alone; depthwise ones have as many outputs as inputs, linear ones `size` tokens."""

    kind: str
    in_channels: int
    out_channels: int
    size: int
    kernel: int
    stride: int
    padding: int
    mode: Mode = "fp32"
    weight_bits: int = FULL_BITS
    act_bits: int = FULL_BITS

    @property
    def groups(self) -> int:
        """Groups of the convolution."""
        return self.in_channels if self.kind == "depthwise" else 1

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output; one line of tokens of a linear layer."""
        if self.kind == "dense":
            return (1, self.size)
        side = (self.size + 2 * self.padding - self.kernel) // self.stride + 1
        return (side, side)

    @property
    def layer(self) -> Layer:
        """The layer as a graph has it."""
        kernel, padding = (self.kernel, self.kernel), (self.padding, self.padding)
        weights = self.kernel**2 * self.in_channels // self.groups * self.out_channels
        return Layer(
            LAYER,
            "linear" if self.kind == "dense" else "conv",
            self.in_channels,
            self.out_channels,
            kernel,
            (self.stride, self.stride),
            padding,
            self.groups,
            self.out_size,
            weights + self.out_channels,
            "",
            (),
        )

    @property
    def policy(self) -> Policy:
        """The policy that computes the layer in its format."""
        form = (self.mode, self.weight_bits, self.act_bits)
        return Policy((LayerPolicy(LAYER, self.out_channels, *form),))

    @property
    def operations(self) -> Operations:
        """The program as it would be traced."""
        if self.kind == "dense":
            x = View("x", (1, self.size, self.in_channels))
            node = Node("y", "linear", (x,), (1, self.size, self.out_channels), layer=LAYER)
        else:
            x = View("x", (1, self.in_channels, self.size, self.size))
            layer = self.layer
            sizes = {name: getattr(layer, name) for name in ("kernel", "stride", "padding")}
            shape = (1, self.out_channels, *self.out_size)
            attrs = {**sizes, "groups": self.groups}
            node = Node("y", "conv", (x,), shape, attrs=attrs, layer=LAYER)
        return Operations("x", x.shape, (node,), View("y", node.shape))

    @property
    def graph(self) -> Graph:
        """The network of this layer alone."""
        side = 1 if self.kind == "dense" else self.size
        shape = (self.in_channels, side, self.size)
        return Graph(self.kind, shape, self.out_channels, (self.layer,))


@dataclass
class LayerPrograms:
    """Builds layers alone for one target."""

    target: Target
    threads: int = 1
    cache: ObjectCache = field(default_factory=ObjectCache)

    def columns(self, spec: Spec) -> dict[str, Any]:
        """Return the sizes and the format."""
        return {f"layer_{name}" if name == "kind" else name: spec[name] for name in spec}

    def plan(self, spec: Spec) -> Program:
        """Return the layer's program."""
        one, builder = self._builder(spec)
        plan = builder.plan_traced(one.policy)
        rows = tuple(map(Row.of, builder.rows(plan, one.policy)))
        structure = program_digest(one.graph, one.policy, self.target.name, self.threads)
        return Program(structure, rows)

    def build(self, spec: Spec, folder: Path) -> Artifact:
        """Write the layer's artifact."""
        one, builder = self._builder(spec)
        return builder.write(builder.plan_traced(one.policy), one.policy, folder)

    def _builder(self, spec: Spec) -> tuple[KernelSpec, Builder]:
        one = KernelSpec(**spec)
        traced = one.operations
        return one, Builder(one.graph, self.target, self.threads, self.cache, traced=traced)


@dataclass
class KernelSpace(LayerPrograms):
    """Layers drawn from ranges."""

    ranges: KernelRanges = field(default_factory=KernelRanges)

    def draw(self, rng: np.random.Generator) -> Spec:
        """Return a layer at random; raises RecipeError where the ranges hold none."""
        for _ in range(ATTEMPTS):
            spec = self._any(rng)
            if self._legal(spec):
                return asdict(spec)
        raise RecipeError("kernels: nothing within these ranges is small enough and has kernels")

    def grid(self) -> Iterator[Spec]:
        """Yield every combination of steps, those of many kinds first."""
        for spec in _spread(list(self._all())):
            yield asdict(spec)

    def _any(self, rng: np.random.Generator) -> KernelSpec:
        ranges = self.ranges
        kind = ranges.kinds[rng.integers(len(ranges.kinds))]
        mode: Mode = FORMATS[FORMATS.index(ranges.formats[rng.integers(len(ranges.formats))])]
        channels = [self._rounded(_log(rng, ranges.channels)) for _ in range(2)]
        kernel, stride = (1, 1) if kind == "dense" else (_one(rng, ranges.kernel), 0)
        stride = stride or _one(rng, ranges.stride)
        outputs = channels[0] if kind == "depthwise" else channels[1]
        low, high = ranges.bits
        drawn = (int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1)))
        bits = {"fp32": (FULL_BITS, FULL_BITS), "int8": (INT8_BITS, INT8_BITS)}.get(mode, drawn)
        size = _log(rng, ranges.size)
        return KernelSpec(
            kind, channels[0], outputs, size, kernel, stride, kernel // 2, mode, *bits
        )

    def _rounded(self, channels: int) -> int:
        step = self.ranges.round_to
        low, high = self.ranges.channels
        return min(max(round(channels / step) * step, low), high)

    def _all(self) -> Iterator[KernelSpec]:
        ranges = self.ranges
        widths = sorted({self._rounded(c) for c in _steps(ranges.channels)})
        low, high = ranges.bits
        every: dict[Mode, list[int]] = {
            "fp32": [FULL_BITS],
            "int8": [INT8_BITS],
            "mix": list(range(low, high + 1)),
        }
        forms = [(m, b) for m, all_bits in every.items() if m in ranges.formats for b in all_bits]
        sizes = sorted(set(_steps(ranges.size)))
        shapes = itertools.product(
            ranges.kinds, widths, widths, sizes, ranges.kernel, ranges.stride
        )
        for kind, inputs, outputs, size, kernel, stride in shapes:
            if kind == "dense" and (kernel, stride) != (ranges.kernel[0], ranges.stride[0]):
                continue
            if kind == "depthwise" and outputs != inputs:
                continue
            side, step = (1, 1) if kind == "dense" else (kernel, stride)
            for mode, bits in forms:
                form = (side // 2, mode, bits, bits)
                spec = KernelSpec(kind, inputs, outputs, size, side, step, *form)
                if self._legal(spec):
                    yield spec

    def _legal(self, spec: KernelSpec) -> bool:
        if spec.kernel > spec.size and spec.kind != "dense":
            return False
        if spec.kind == "depthwise" and spec.kernel == 1:
            return False
        layer = spec.layer
        refused = refusal(layer, spec.mode, spec.weight_bits, spec.act_bits)
        return refused is None and layer.macs <= self.ranges.max_mmacs * 1e6


def _one(rng: np.random.Generator, values: tuple[int, ...]) -> int:
    return int(values[rng.integers(len(values))])


def _log(rng: np.random.Generator, bounds: tuple[int, ...]) -> int:
    return round(float(np.exp(rng.uniform(*np.log(bounds)))))


def _steps(bounds: tuple[int, ...]) -> list[int]:
    low, high = bounds
    return [round(float(x)) for x in np.geomspace(low, high, GRID_STEPS)]


def _spread(values: list[Any]) -> Iterator[Any]:
    """Yield all values, those far from each other first: by the bits of their place, reversed."""
    width = max(len(values) - 1, 1).bit_length()
    order = sorted(range(len(values)), key=lambda i: int(f"{i:0{width}b}"[::-1], 2))
    return (values[i] for i in order)
