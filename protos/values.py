"""The contract's values as plain dataclasses, field for field as in board.proto; no I/O.

Host and agent share them, so that messages stay at the edge of both (protos/convert.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

UNDER_VOLTAGE, FREQUENCY_CAPPED, THROTTLED, SOFT_LIMIT = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class TimingPlan:
    """How to measure."""

    number: int
    mode: str
    warmup_runs: int
    warmup_s: float
    warmup_cap_s: float
    settle_ratio: float
    runs: int
    seconds: float
    cap_s: float
    half_width_ratio: float
    blocks: int
    gate_wait_s: float
    gate_temperature_c: float
    idle_s: float
    gate_band_c: float = 0.0
    set_point_c: float = 0.0
    clock_ratio: float = 0.0

    def __post_init__(self) -> None:
        if self.runs < 1 or self.blocks < 1:
            raise ValueError(f"a plan needs at least 1 run and 1 block, got {self}")


@dataclass(frozen=True, slots=True)
class Conditions:
    """The state of the board at one instant; None where it cannot be known."""

    at_ns: int
    temperature_c: float | None = None
    clock_mhz: float | None = None
    throttle_bits: int | None = None
    load_ratio: float | None = None
    free_memory_bytes: int | None = None
    governor: str = ""
    effective_mhz: float | None = None
    nominal_mhz: float | None = None

    @property
    def under_voltage(self) -> bool:
        """Whether the supply is too low right now."""
        return bool((self.throttle_bits or 0) & UNDER_VOLTAGE)


@dataclass(frozen=True, slots=True)
class Counter:
    """One hardware event over `runs` inferences; `value` is scaled where it was multiplexed.

    0 runs are as many as there are samples.
    """

    name: str
    value: int
    enabled_ns: int
    running_ns: int
    runs: int = 0

    @property
    def multiplexed(self) -> bool:
        """Whether the value is an estimate: the event had to share its register."""
        return self.running_ns < self.enabled_ns


@dataclass(frozen=True, slots=True)
class Block:
    """The samples of one process, one per inference, in order.

    `throttle_seen` are all throttle bits, `hottest_c` the highest temperature while it sampled.
    """

    samples_ns: tuple[int, ...]
    warmup_runs: int
    settled: bool
    start: Conditions | None = None
    end: Conditions | None = None
    counters: tuple[Counter, ...] = ()
    notes: tuple[str, ...] = ()
    throttle_seen: int | None = None
    hottest_c: float | None = None


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules and seconds of the sampling windows, and what bounds their error.

    `delta_t_s` is how far off each edge of a window may be, `resolution_w` the meter's step.
    """

    active_j: float
    active_s: float
    inferences: int
    readings: int
    meter: str
    idle_w: float | None = None
    idle_after_w: float | None = None
    lost: int = 0
    windows: int = 1
    delta_t_s: float = 0.0
    resolution_w: float = 0.0

    @property
    def idle_mean_w(self) -> float | None:
        """Watts of the idle windows before and after; None where there was none."""
        known = [w for w in (self.idle_w, self.idle_after_w) if w is not None]
        return sum(known) / len(known) if known else None

    @property
    def error_j(self) -> float:
        """Bound on the error of `active_j`: 2 delta_t delta_P a window, and the meter's step.

        Without an idle window the whole power counts as the step at an edge.
        """
        if not self.active_s:
            return 0.0
        step_w = abs(self.active_j / self.active_s - (self.idle_mean_w or 0.0))
        return 2 * self.delta_t_s * step_w * self.windows + self.resolution_w * self.active_s


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the board says that it measured, and its signature; `unsigned` says why there is none.

    `signature` and `key` (DER) are base64.
    """

    statement: str
    signature: str = ""
    key: str = ""
    unsigned: str = ""


@dataclass(frozen=True, slots=True)
class LayerCheck:
    """Differences of one quantized layer in the forced run; `largest` are absolute."""

    layer: str
    quantize_elements: int = 0
    quantize_mismatches: int = 0
    quantize_ties: int = 0
    quantize_largest: int = 0
    accumulate_elements: int = 0
    accumulate_mismatches: int = 0
    accumulate_largest: int = 0


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What the golden input showed."""

    layers: tuple[LayerCheck, ...]
    output_largest: float
    output_range: float
    forced_output_largest: float


@dataclass(frozen=True, slots=True)
class KernelTiming:
    """The samples of one row of the manifest's kernel table, one per repeat.

    `instrument_ns` is what the instrument took of each, and what was taken off; `counters` are
    over all repeats.
    """

    index: int
    call: str
    layer: str
    kind: str
    samples_ns: tuple[int, ...]
    instrument_ns: int = 0
    counters: tuple[Counter, ...] = ()

    @property
    def median_us(self) -> float:
        """Median microseconds of one call."""
        return median(self.samples_ns) / 1e3


@dataclass(frozen=True, slots=True)
class Profile:
    """Every kernel call, and the whole program as timed in turn with them.

    `end_to_end_ns` are plain runs, one per repeat; `notes` say which counters are absent, and why.
    """

    kernels: tuple[KernelTiming, ...]
    end_to_end_ns: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sums_ns(self) -> tuple[int, ...]:
        """Nanoseconds of all kernels together, one sum per repeat."""
        runs = zip(*(kernel.samples_ns for kernel in self.kernels), strict=True)
        return tuple(sum(run) for run in runs)

    @property
    def excess_ratio(self) -> float | None:
        """How far the kernels' median sum is above the median plain run, as a share of it.

        None where no plain run was timed.
        """
        if not self.end_to_end_ns:
            return None
        whole_ns = median(self.end_to_end_ns)
        return (median(self.sums_ns) - whole_ns) / whole_ns
