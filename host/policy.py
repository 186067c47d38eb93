"""Policies: what to do with every layer, their JSON, their digests, and the space of legal ones.

Nothing here knows a board, a compiler or a network module: legality comes in as a function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from host.canonical import digest
from host.errors import PolicyError
from host.types import Graph, Layer

Mode = Literal["fp32", "int8", "mix"]
MODES: tuple[Mode, ...] = ("fp32", "int8", "mix")
FULL_BITS = 32
INT8_BITS = 8
MAX_MIX_BITS = 6
POLICY_FORMAT = 1
# How channels are chosen unless a strategy says otherwise (host.compress.pruners has all).
L1 = "l1"
# The pattern of zeros that kernels skip (host.compress.patterns has all).
BLOCK = "block"

# (layer, mode, weight_bits, act_bits) -> why a target's kernels cannot do it, or None
Refusal = Callable[[Layer, Mode, int, int], str | None]


@dataclass(frozen=True, slots=True)
class LayerPolicy:
    """What to do with one layer: `keep` output channels, and the format of its arithmetic.

    `pruner` names the measure by which channels go or, with `zeros`, the pattern by which so many
    per cent of the weights that are left do; channels then go by L1.
    """

    layer: str
    keep: int
    mode: Mode = "fp32"
    weight_bits: int = FULL_BITS
    act_bits: int = FULL_BITS
    scheme: str = "symmetric"
    granularity: str = "channel"
    pruner: str = L1
    zeros: int = 0

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise PolicyError(f"{self.layer}: keep must be at least 1 channel, got {self.keep}")
        if not 0 <= self.zeros < 100:
            raise PolicyError(f"{self.layer}: zeros must be 0 to 99 per cent, got {self.zeros}")
        if self.zeros and self.weight_bits == 1:
            raise PolicyError(f"{self.layer}: weights of one bit are never zero")
        if self.mode not in MODES:
            raise PolicyError(
                f"{self.layer}: mode must be one of {', '.join(MODES)}, got {self.mode!r}"
            )
        expected = {"fp32": (FULL_BITS, FULL_BITS), "int8": (INT8_BITS, INT8_BITS)}
        bits = (self.weight_bits, self.act_bits)
        if self.mode in expected and bits != expected[self.mode]:
            raise PolicyError(
                f"{self.layer}: mode {self.mode} takes bits {expected[self.mode]}, got {bits}"
            )
        if self.mode == "mix" and not all(1 <= b <= MAX_MIX_BITS for b in bits):
            raise PolicyError(f"{self.layer}: mode mix takes 1 to {MAX_MIX_BITS} bits, got {bits}")

    @property
    def measure(self) -> str:
        """The measure by which channels go."""
        return L1 if self.zeros else self.pruner

    @property
    def skipped(self) -> int:
        """Per cent of the weights that kernels may skip; other zeros they multiply."""
        return self.zeros if self.pruner == BLOCK and self.mode != "mix" else 0


@dataclass(frozen=True, slots=True)
class Policy:
    """One decision for every layer of a network, in order of execution."""

    layers: tuple[LayerPolicy, ...]

    def __getitem__(self, name: str) -> LayerPolicy:
        for layer in self.layers:
            if layer.layer == name:
                return layer
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"format": POLICY_FORMAT, "layers": [_layer_dict(layer) for layer in self.layers]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        """Read the JSON form; raises PolicyError for another format or a malformed layer."""
        if data.get("format") != POLICY_FORMAT:
            raise PolicyError(f"policy format {data.get('format')!r} is not {POLICY_FORMAT}")
        try:
            return cls(tuple(LayerPolicy(**raw) for raw in data["layers"]))
        except (KeyError, TypeError) as e:
            raise PolicyError(f"malformed policy: {e}") from e

    def digest(self) -> str:
        """Identity of the whole policy."""
        return digest(self.to_dict())

    def structure_digest(self) -> str:
        """Identity of all that changes the program but not the weight values."""
        # Zeros that dense kernels multiply are weight values like any other.
        return digest(
            [
                [p.layer, p.keep, p.mode, p.weight_bits, p.act_bits, *filter(None, [p.skipped])]
                for p in self.layers
            ]
        )

    def pruning_digest(self) -> str:
        """Identity of what is left of the network, whatever its formats."""
        return digest([[p.layer, p.keep, p.zeros] for p in self.layers])

    def keeps(self, graph: Graph) -> dict[str, int]:
        """Return the channels that every group driver keeps."""
        return {layer.name: self[layer.name].keep for layer in graph.drivers}


def _layer_dict(layer: LayerPolicy) -> dict[str, Any]:
    """Return the JSON form; without zeros it is what it was before there were any."""
    data = asdict(layer)
    return data if layer.zeros else {key: data[key] for key in data if key != "zeros"}


def program_digest(graph: Graph, policy: Policy, target: str, threads: int) -> str:
    """Identity of a program without its weights: what latency, energy and kernels depend on."""
    shape = [graph.to_dict()["layers"], list(graph.input_shape), graph.classes]
    return digest([shape, graph.name, policy.structure_digest(), target, threads])


def uniform_int8(space: Space) -> Policy:
    """Return the policy that everybody has already: whole layers, int8 wherever it is legal."""
    form = Choice(None, "int8", INT8_BITS, INT8_BITS)
    return space.policy({layer.name: form for layer in space.graph.layers})


def uncompressed(graph: Graph) -> Policy:
    """Return the policy that changes nothing."""
    return Policy(tuple(LayerPolicy(layer.name, layer.out_channels) for layer in graph.layers))


def discretise(ratio: float, levels: float) -> int:
    """Map a compression ratio in [0, 1] to 1..levels, 0 giving `levels` (Galen, eq. 4)."""
    return min(max(math.floor((1.0 - ratio) * levels) + 1, 1), int(levels))


@dataclass(frozen=True, slots=True)
class Choice:
    """A wish for one layer before it is made legal."""

    keep: int | None = None
    mode: Mode = "fp32"
    weight_bits: int = FULL_BITS
    act_bits: int = FULL_BITS
    pruner: str = L1
    zeros: int = 0


@dataclass(frozen=True)
class Space:
    """The legal policies of a network on a target.

    `round_to` rounds kept channels up to a multiple (a group's own step, such as a head's width,
    comes first); `frozen` layers stay fp32 and whole; `refuse` says what the target cannot do.
    `decided[layer]` is the width, or None, and the zeros of a layer whatever is wished for.
    """

    graph: Graph
    refuse: Refusal
    round_to: int = 8
    max_mix_bits: int = MAX_MIX_BITS
    frozen: frozenset[str] = field(default_factory=frozenset)
    decided: Mapping[str, Choice] = field(default_factory=dict)

    def prunable(self, layer: Layer) -> bool:
        """Whether the width of this layer is a decision."""
        return layer.is_driver and layer.name not in self.frozen

    def quantizable(self, layer: Layer) -> bool:
        """Whether the number format of this layer is a decision."""
        return layer.name not in self.frozen

    def thins(self, layer: Layer) -> bool:
        """Whether single weights of this layer may go."""
        return layer.name not in self.frozen

    def step(self, layer: Layer) -> int:
        """Channels that are removed or kept together."""
        return math.lcm(
            self.graph.steps.get(layer.group, 1), min(self.round_to, layer.out_channels)
        )

    def keep_levels(self, layer: Layer) -> tuple[int, ...]:
        """Return the legal widths, ascending; the full width is always one of them."""
        if not self.prunable(layer):
            return (layer.out_channels,)
        step = self.step(layer)
        widths = range(step, layer.out_channels, step)
        return (*widths, layer.out_channels)

    def keep_for(self, layer: Layer, sparsity: float) -> int:
        """Map a sparsity in [0, 1] to a legal width (Galen's width / step, times step)."""
        if not self.prunable(layer):
            return layer.out_channels
        step = self.step(layer)
        return min(discretise(sparsity, layer.out_channels / step) * step, layer.out_channels)

    def why_not(self, layer: Layer, mode: Mode, weight_bits: int, act_bits: int) -> str | None:
        """Say why this number format is refused for this layer, or return None."""
        if mode != "fp32" and not self.quantizable(layer):
            return f"{layer.name} is frozen by the recipe"
        if mode == "mix" and max(weight_bits, act_bits) > self.max_mix_bits:
            return f"{layer.name}: more than {self.max_mix_bits} bits are slower than int8"
        return self.refuse(layer, mode, weight_bits, act_bits)

    def modes(self, layer: Layer) -> tuple[Mode, ...]:
        """Return the number formats that this layer may take."""
        bits = {"fp32": FULL_BITS, "int8": INT8_BITS, "mix": 1}
        return tuple(m for m in MODES if self.why_not(layer, m, bits[m], bits[m]) is None)

    def policy(self, choices: Mapping[str, Choice]) -> Policy:
        """Make wishes legal: a refused mix falls to int8 and a refused int8 to fp32 (Galen).

        Layers without a wish stay uncompressed; followers take their driver's share.
        """
        wishes = {layer.name: self._wish(layer, choices) for layer in self.graph.layers}
        keeps = {
            layer.name: self._legal_keep(layer, wishes[layer.name]) for layer in self.graph.drivers
        }
        return Policy(
            tuple(self._legal(layer, wishes[layer.name], keeps) for layer in self.graph.layers)
        )

    def _wish(self, layer: Layer, choices: Mapping[str, Choice]) -> Choice:
        wish, decided = choices.get(layer.name, Choice()), self.decided.get(layer.name)
        if decided is None:
            return wish
        keep = wish.keep if decided.keep is None else decided.keep
        return replace(wish, keep=keep, pruner=decided.pruner, zeros=decided.zeros)

    def _legal(self, layer: Layer, choice: Choice, keeps: Mapping[str, int]) -> LayerPolicy:
        form = self._legal_format(layer, choice)
        zeros = choice.zeros if self.thins(layer) and form.weight_bits > 1 else 0
        # Where nothing goes there is nothing to choose, nor by a pattern without its zeros.
        whole = keeps.get(layer.name, layer.out_channels) == layer.out_channels
        pruner = choice.pruner if zeros or not (whole or choice.zeros) else L1
        keep = self.graph.out_channels(layer, keeps)
        return replace(form, keep=keep, pruner=pruner, zeros=zeros)

    def check(self, policy: Policy) -> None:
        """Raise PolicyError where a policy is not legal here; the message names the layer."""
        if [p.layer for p in policy.layers] != [layer.name for layer in self.graph.layers]:
            raise PolicyError("the policy names other layers than the network has")
        keeps = policy.keeps(self.graph)
        for layer, p in zip(self.graph.layers, policy.layers, strict=True):
            if reason := self.why_not(layer, p.mode, p.weight_bits, p.act_bits):
                raise PolicyError(f"{layer.name}: {p.mode} is refused: {reason}")
            if p.keep != self.graph.out_channels(layer, keeps) or p.keep > layer.out_channels:
                raise PolicyError(f"{layer.name}: keep {p.keep} does not fit its channel group")

    def _legal_keep(self, layer: Layer, choice: Choice) -> int:
        if choice.keep is None or not self.prunable(layer):
            return layer.out_channels
        levels = self.keep_levels(layer)
        return next((width for width in levels if width >= choice.keep), levels[-1])

    def _legal_format(self, layer: Layer, choice: Choice) -> LayerPolicy:
        width = layer.out_channels
        if choice.mode == "mix":
            bits = (choice.weight_bits, choice.act_bits)
            if self.why_not(layer, "mix", *bits) is None:
                return LayerPolicy(layer.name, width, "mix", *bits)
        if choice.mode != "fp32" and self.why_not(layer, "int8", INT8_BITS, INT8_BITS) is None:
            return LayerPolicy(layer.name, width, "int8", INT8_BITS, INT8_BITS)
        return LayerPolicy(layer.name, width)


def policy_macs(graph: Graph, policy: Policy) -> dict[str, int]:
    """Return multiply-accumulates per sample of every layer under a policy."""
    keeps = policy.keeps(graph)
    return {
        layer.name: layer.macs_with(graph.in_channels(layer, keeps), policy[layer.name].keep)
        for layer in graph.layers
    }


def policy_weights(graph: Graph, policy: Policy) -> dict[str, float]:
    """Return the weights of every layer that are left under a policy, zeros left out."""
    macs = policy_macs(graph, policy)
    return {
        layer.name: macs[layer.name] / layer.positions * (1 - policy[layer.name].zeros / 100)
        for layer in graph.layers
    }


def policy_bops(graph: Graph, policy: Policy) -> dict[str, int]:
    """Return MACs x weight bits x activation bits of every layer under a policy."""
    macs = policy_macs(graph, policy)
    return {p.layer: macs[p.layer] * p.weight_bits * p.act_bits for p in policy.layers}
