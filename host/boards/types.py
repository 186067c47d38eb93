"""The values that boards answer with; statistics are derived, never stored alone; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import fmean, median, pstdev
from typing import Any

from host.boards.protocol import MeasureProtocol, Verdict
from host.canonical import digest
from host.stats import Interval, median_interval
from protos.convert import from_json
from protos.values import (
    Block,
    Conditions,
    Counter,
    Energy,
    KernelTiming,
    LayerCheck,
    Profile,
    Receipt,
    VerifyReport,
)
from protos.verdict import judge_energy

__all__ = [
    "Block",
    "BoardInfo",
    "Conditions",
    "Counter",
    "Energy",
    "KernelTiming",
    "LayerCheck",
    "Lease",
    "Look",
    "Measurement",
    "Profile",
    "Progress",
    "Receipt",
    "VerifyReport",
]


@dataclass(frozen=True, slots=True)
class BoardInfo:
    """What a board is and whether it is free; `state` is free, leased, measuring or quarantined."""

    name: str
    kind: str
    arch: str
    agent_version: str
    service_version: int
    runtime_abi: int
    fingerprint: Mapping[str, str]
    capabilities: tuple[str, ...]
    state: str
    holder: str = ""
    lease_remaining_s: float = 0.0
    reason: str = ""
    queue_length: int = 0
    held_s: float = 0.0
    # About how long a newcomer would wait; None where nobody can tell.
    wait_s: float | None = None

    @property
    def fingerprint_digest(self) -> str:
        """What two boards must share for their numbers to be compared."""
        return digest(dict(self.fingerprint))


@dataclass(frozen=True, slots=True)
class Lease:
    """Our exclusive use of a board."""

    fence: int
    secret: str = field(repr=False)
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a measurement is: gate, warmup, sample or sampled, of block `block`."""

    phase: str
    block: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """Raw samples of one program on one board under one protocol, with its verdict.

    `anchors` are the blocks of the program `anchor` (a digest) that were taken between them.
    """

    artifact: str
    structure: str
    board: str
    fingerprint: Mapping[str, str]
    protocol: MeasureProtocol
    blocks: tuple[Block, ...]
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    energy: Energy | None = None
    anchor: str = ""
    anchors: tuple[Block, ...] = ()
    # A measurement is what it says, whoever signed it.
    receipt: Receipt | None = field(default=None, compare=False)

    @property
    def samples_ns(self) -> tuple[int, ...]:
        """Every sample, block after block."""
        return tuple(ns for block in self.blocks for ns in block.samples_ns)

    @property
    def fingerprint_digest(self) -> str:
        """Identity of what the numbers depend on beside the program."""
        return digest(dict(self.fingerprint))

    @property
    def latency_ms(self) -> Interval:
        """Median per inference with its 95 % interval; of block medians where there are several."""
        if len(self.blocks) == 1:
            return median_interval([ns / 1e6 for ns in self.samples_ns])
        return median_interval(self.block_medians_ms)

    @property
    def block_medians_ms(self) -> tuple[float, ...]:
        """Median milliseconds of every block."""
        return tuple(median(block.samples_ns) / 1e6 for block in self.blocks)

    @property
    def noise_ratio(self) -> float:
        """Standard deviation of all samples over their mean."""
        return pstdev(self.samples_ns) / fmean(self.samples_ns)

    @property
    def energy_mj(self) -> float | None:
        """Millijoules per inference, idle power included."""
        if self.energy is None or not self.energy.inferences:
            return None
        return self.energy.active_j / self.energy.inferences * 1e3

    @property
    def net_energy_mj(self) -> float | None:
        """Millijoules per inference above idle; None where idle was not measured."""
        energy = self.energy
        if energy is None or energy.idle_mean_w is None or not energy.inferences:
            return None
        return (energy.active_j - energy.idle_mean_w * energy.active_s) / energy.inferences * 1e3

    @property
    def energy_error_mj(self) -> float | None:
        """Bound on the error of millijoules per inference; None without a meter."""
        if self.energy is None or not self.energy.inferences:
            return None
        return self.energy.error_j / self.energy.inferences * 1e3

    @property
    def energy_verdict(self) -> tuple[Verdict, tuple[str, ...]] | None:
        """The verdict on the joules with its reasons, apart from that on the time."""
        return None if self.energy is None else judge_energy(self.energy)

    @property
    def identity(self) -> str:
        """Digest of all that was measured; receipts of equal measurements may differ."""
        return digest({k: v for k, v in self.to_dict().items() if k != "receipt"})

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "fingerprint": dict(self.fingerprint)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Measurement:
        """Read the JSON form."""
        return from_json(cls, data)


@dataclass(frozen=True, slots=True)
class Look:
    """What a board's anchor took last and at first; `at` is when the last was kept, in UTC."""

    at: str
    measured: Measurement
    baseline: Measurement

    @property
    def drift_ratio(self) -> float:
        """How far the last is off the first: 0.02 is 2 % slower."""
        return self.measured.latency_ms.median / self.baseline.latency_ms.median - 1
