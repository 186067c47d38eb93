"""Energy of a policy on a spatial accelerator, by counting what moves where: Eyeriss' analysis.

Row stationary (Chen, Emer, Sze; ISCA 2016): rows of weights stay in the registers of processing
elements, rows of inputs and sums pass along. For every layer the mapping onto the array is chosen
that costs least. What is counted: words to and from the DRAM, the global buffer, other elements and
registers, and multiplications; each has its cost in 16-bit multiply-accumulates, and scales with
the bits of what moves. Zeros are gated. All tables are in a data file, `host/eyeriss.toml`.

This is a model of an accelerator, never of a board: a board's own joules are measured, and
`BoardEnergy` tells those of its evaluations.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any

from host.cost import ENERGY
from host.errors import CallerError
from host.policy import Policy, uncompressed
from host.types import Evaluation, Graph, Layer

FULL_BITS = 16
# What a policy calls fp32 is what this accelerator computes with all its bits.
_BITS = {"fp32": FULL_BITS}


@dataclass(frozen=True, slots=True)
class Accelerator:
    """Sizes in words of `word_bits` and costs in multiply-accumulates; see `host/eyeriss.toml`."""

    name: str
    word_bits: int
    rows: int
    columns: int
    weight_words: int
    input_words: int
    sum_words: int
    buffer_words: int
    dram: float
    buffer: float
    array: float
    register: float
    mac: float
    multiplier: float
    gate_inputs: bool
    gate_weights: bool
    run_bits: int
    mac_pj: float

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Accelerator:
        """Read the tables; raises CallerError where one lacks an entry."""
        try:
            gating = data["gating"]
            return cls(
                name=data["name"],
                word_bits=data["word_bits"],
                **data["array"],
                buffer_words=data["buffer"]["words"],
                **data["cost"],
                gate_inputs=gating["inputs"],
                gate_weights=gating["weights"],
                run_bits=gating["run_bits"],
                mac_pj=data["physical"]["mac_pj"],
            )
        except (KeyError, TypeError) as e:
            raise CallerError(f"the accelerator's tables lack or misname an entry: {e}") from e


def eyeriss() -> Accelerator:
    """Return Eyeriss."""
    return Accelerator.from_dict(tomllib.loads((files("host") / "eyeriss.toml").read_text()))


@dataclass(frozen=True, slots=True)
class Work:
    """One layer as it is computed: its sizes per sample, its bits and its shares of zeros.

    `weight_zeros` are zeros among the weights that are kept; `sparse_outputs` of the outputs leave
    the chip as zeros.
    """

    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    out_size: tuple[int, int]
    groups: int = 1
    batch: int = 1
    weight_bits: int = FULL_BITS
    act_bits: int = FULL_BITS
    weight_zeros: float = 0.0
    input_zeros: float = 0.0
    sparse_outputs: float = 0.0

    @property
    def in_size(self) -> tuple[int, int]:
        """Rows and columns of inputs that outputs depend on, padding included."""
        (rows, columns), (r, s), (dy, dx) = self.out_size, self.kernel, self.stride
        return (rows - 1) * dy + r, (columns - 1) * dx + s

    @property
    def group_inputs(self) -> int:
        """Input channels that an output depends on."""
        return max(self.inputs // self.groups, 1)

    @property
    def weights(self) -> int:
        """Weights, zeros among them included."""
        return self.outputs * self.group_inputs * math.prod(self.kernel)

    @property
    def input_words(self) -> int:
        """Inputs of the whole batch."""
        return self.batch * self.inputs * math.prod(self.in_size)

    @property
    def output_words(self) -> int:
        """Outputs of the whole batch."""
        return self.batch * self.outputs * math.prod(self.out_size)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole batch, those with zeros included."""
        return self.output_words * self.group_inputs * math.prod(self.kernel)


@dataclass(frozen=True, slots=True)
class Energy:
    """Where the energy of a layer goes, in 16-bit multiply-accumulates."""

    dram: float
    buffer: float
    array: float
    register: float
    mac: float

    @property
    def chip(self) -> float:
        """All but the DRAM's."""
        return self.buffer + self.array + self.register + self.mac

    @property
    def total(self) -> float:
        """All of it."""
        return self.chip + self.dram

    def to_dict(self) -> dict[str, float]:
        """Return the JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a layer lies on the array.

    An element holds `filters` rows of weights over `channels`; `strip` rows of outputs are made at
    a time, by `filter_sets` x `channel_sets` sets of elements.
    """

    filters: int
    channels: int
    strip: int
    filter_sets: int
    channel_sets: int


@lru_cache(maxsize=1 << 16)
def energy(work: Work, chip: Accelerator) -> Energy:
    """Return the least energy of a layer over all mappings.

    Remembered: an agent that walks over layers asks for all of them at every step.
    """
    return min((_count(work, at, chip) for at in mappings(work, chip)), key=lambda e: e.total)


def policy_energy(
    graph: Graph, policy: Policy, chip: Accelerator, zeros: Mapping[str, float] | None = None
) -> dict[str, Energy]:
    """Return the energy of every layer of a policy; `zeros[layer]` is the share of zero inputs.

    fp32 counts as the accelerator's full 16 bits.
    """
    keeps = policy.keeps(graph)
    known = zeros or {}
    found = {}
    for layer, form in zip(graph.layers, policy.layers, strict=True):
        bits = _BITS.get(form.mode)
        work = work_of(
            layer,
            graph.in_channels(layer, keeps),
            form.keep,
            bits or form.weight_bits,
            bits or form.act_bits,
            known.get(layer.name, 0.0),
            form.zeros / 100,
        )
        found[layer.name] = energy(work, chip)
    return found


def work_of(
    layer: Layer,
    inputs: int,
    outputs: int,
    weight_bits: int,
    act_bits: int,
    input_zeros: float,
    weight_zeros: float,
) -> Work:
    """Return a layer at these widths and bits as work for an accelerator."""
    return Work(
        inputs,
        outputs,
        layer.kernel,
        layer.stride,
        layer.out_size,
        outputs if layer.depthwise else layer.groups,
        1,
        weight_bits,
        act_bits,
        weight_zeros,
        input_zeros,
    )


@dataclass(frozen=True, eq=False)
class AcceleratorEnergy:
    """Millijoules of policies of one network on an accelerator; `zeros` are those of its inputs."""

    graph: Graph
    chip: Accelerator
    zeros: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, policy: Policy) -> float:
        """Return the energy of one inference in millijoules."""
        return millijoules(self.by_layer(policy), self.chip)

    def of(self, policy: Policy, evaluation: Evaluation) -> float:
        """Return the same; nothing has to be evaluated."""
        return self(policy)

    def by_layer(self, policy: Policy) -> dict[str, Energy]:
        """Return where the energy of every layer goes."""
        return policy_energy(self.graph, policy, self.chip, self.zeros)

    def shares(self, policy: Policy) -> dict[str, float]:
        """Return the energy of every layer, of the whole uncompressed network's."""
        return {name: e.total / self._whole for name, e in self.by_layer(policy).items()}

    @cached_property
    def _whole(self) -> float:
        return sum(e.total for e in self.by_layer(uncompressed(self.graph)).values())


@dataclass(frozen=True, eq=False)
class BoardEnergy:
    """Millijoules as a board measured them; layers by what they are forecast to cost."""

    graph: Graph
    layer_cost: Callable[[Policy], Mapping[str, float]]

    def of(self, policy: Policy, evaluation: Evaluation) -> float:
        """Return the measured energy; raises CallerError for a board without a power meter."""
        return ENERGY.of(evaluation)

    def shares(self, policy: Policy) -> dict[str, float]:
        """Return the forecast cost of every layer, of the whole uncompressed network's."""
        return {name: cost / self._whole for name, cost in self.layer_cost(policy).items()}

    @cached_property
    def _whole(self) -> float:
        return sum(self.layer_cost(uncompressed(self.graph)).values())


def millijoules(energies: Mapping[str, Energy], chip: Accelerator) -> float:
    """Return the sum of some layers in millijoules."""
    return sum(e.total for e in energies.values()) * chip.mac_pj * 1e-9


def mappings(work: Work, chip: Accelerator) -> Iterator[Layout]:
    """Yield how a layer may lie on the array: rows across, several filters and channels at once."""
    rows, columns = work.kernel
    channels = max(min(chip.input_words // columns, work.group_inputs), 1)
    strip = min(work.out_size[0], chip.columns)
    # A kernel higher than the array is folded, one set at a time.
    sets = max(chip.rows // rows, 1) * max(chip.columns // strip, 1)
    for held in {channels, max(channels // 2, 1), 1}:
        filters = max(min(chip.weight_words // (held * columns), chip.sum_words), 1)
        filters = min(filters, max(work.outputs // work.groups, 1))
        for filter_sets in range(1, sets + 1):
            yield Layout(filters, held, strip, filter_sets, max(sets // filter_sets, 1))


def _count(work: Work, at: Layout, chip: Accelerator) -> Energy:
    group_outputs = max(work.outputs // work.groups, 1)
    strips = math.ceil(work.out_size[0] / at.strip)
    filter_passes = math.ceil(group_outputs / (at.filters * at.filter_sets))
    channel_passes = math.ceil(work.group_inputs / (at.channels * at.channel_sets))
    weight, act = (bits / chip.word_bits for bits in (work.weight_bits, work.act_bits))

    # Sums of as many filters as fit stay in the buffer while the inputs stream by; then again.
    strip_sums = work.batch * at.strip * work.out_size[1]
    resident = max(min(group_outputs, chip.buffer_words // max(strip_sums, 1)), 1)
    input_loads = math.ceil(group_outputs / max(resident, at.filters * at.filter_sets))
    dram = (
        work.weights * strips * weight * _sent(work.weight_zeros, work.weight_bits, chip)
        + work.input_words * input_loads * act * _sent(work.input_zeros, work.act_bits, chip)
        + work.output_words * act * _sent(work.sparse_outputs, work.act_bits, chip)
    )
    # Sums are full words: written and read again between passes over channels.
    parts = 2.0 * (channel_passes - 1) * work.output_words
    buffer = work.input_words * filter_passes * act + work.weights * strips * weight + parts
    # Sums cross the rows of a set; inputs and weights are sent to all that share them.
    crossing = work.macs / (at.channels * work.kernel[1])
    array = crossing + work.macs / (work.kernel[1] * at.filters) * act
    done = (1 - work.input_zeros * chip.gate_inputs) * (1 - work.weight_zeros * chip.gate_weights)
    register = work.macs * (act + done * (weight + 2.0))
    mac = work.macs * done * _multiply(work.weight_bits, work.act_bits, chip)
    return Energy(
        dram * chip.dram,
        buffer * chip.buffer,
        array * chip.array,
        register * chip.register,
        mac * chip.mac,
    )


def _sent(zeros: float, bits: int, chip: Accelerator) -> float:
    """Return which share of the bits is sent, by runs where that is less."""
    return min(1.0, (1 - zeros) * (bits + chip.run_bits) / bits)


def _multiply(weight_bits: int, act_bits: int, chip: Accelerator) -> float:
    product = weight_bits * act_bits / chip.word_bits**2
    total = (weight_bits + act_bits) / (2 * chip.word_bits)
    return chip.multiplier * product + (1 - chip.multiplier) * total
