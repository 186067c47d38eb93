"""Streams with a known truth: what a board would send on a good day, and on each kind of bad one.

Every case is drawn from its seed alone. Quiet noise is lognormal with a deviation of 0.2 to 0.8 %
and one run in 500 slowed by an interrupt, 60 to 600 runs a window: what a tuned board sends in a
second or more. Only public values come out, so that the real rules judge them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from device_agent.power import EnergyBook
from protos.values import Block, Conditions, Energy, TimingPlan
from tests.streams.bench import Bench

NOMINAL_MHZ = 1800.0
QUIET_SIGMA = (0.002, 0.008)
RUNS = (60, 600)
SPIKE_RATE, SPIKE_RATIO = 0.002, (1.03, 1.25)


@dataclass(frozen=True)
class Case:
    """What came back, and the truth behind it: the kind of fault and the true median (ns)."""

    kind: str
    median_ns: float
    blocks: tuple[Block, ...]
    energy: Energy
    words: str = ""  # what a reason must say
    anchors: tuple[Block, ...] = ()
    true_j: float | None = None


@dataclass
class Day:
    """One board on one day: its generator and the program's true time."""

    rng: np.random.Generator
    true_ns: float = field(init=False)
    sigma: float = field(init=False)

    def __post_init__(self) -> None:
        self.true_ns = float(np.exp(self.rng.uniform(np.log(5e5), np.log(3e7))))
        self.sigma = float(self.rng.uniform(*QUIET_SIGMA))

    def runs(self) -> int:
        """Return how many runs a window has."""
        return int(np.exp(self.rng.uniform(*np.log(RUNS))))

    def noise(self, runs: int) -> np.ndarray:
        """Return factors whose median is one."""
        rng = self.rng
        spikes = np.where(rng.random(runs) < SPIKE_RATE, rng.uniform(*SPIKE_RATIO, runs), 1.0)
        return np.asarray(np.exp(rng.normal(0.0, self.sigma, runs)) * spikes)

    def block(self, level: np.ndarray | float = 1.0, runs: int | None = None) -> Block:
        """Return a block of runs at a level, one or one a run."""
        count = len(level) if isinstance(level, np.ndarray) else runs or self.runs()
        samples = np.rint(self.true_ns * level * self.noise(count)).astype(int)
        calm = Conditions(
            0, 50.0, NOMINAL_MHZ, 0, effective_mhz=self._clock(), nominal_mhz=NOMINAL_MHZ
        )
        end = replace(calm, temperature_c=51.0, effective_mhz=self._clock())
        return Block(tuple(samples.tolist()), 20, True, calm, end, throttle_seen=0, hottest_c=51.5)

    def energy(self, **more: float) -> Energy:
        """Return the joules of a window of ten seconds and more."""
        active_s = float(self.rng.uniform(10.0, 30.0))
        watts = float(self.rng.uniform(3.0, 6.0))
        readings = round(active_s / 0.01)
        made = Energy(watts * active_s, active_s, 100, readings, "ina226", 2.3, 2.32)
        return replace(made, delta_t_s=0.005, resolution_w=0.00625, **more)

    def _clock(self) -> float:
        return NOMINAL_MHZ * (1 + float(self.rng.normal(0.0, 0.0015)))


def clean(day: Day) -> Case:
    """Nothing is wrong."""
    return Case("clean", day.true_ns, (day.block(),), day.energy())


def throttled(day: Day) -> Case:
    """The clock falls to 1000 ... 1500 MHz in mid-run; in half of the cases no bit says so."""
    runs = day.runs()
    place, ratio = day.rng.uniform(0.15, 0.85), NOMINAL_MHZ / day.rng.uniform(1000.0, 1500.0)
    block = day.block(np.where(np.arange(runs) < place * runs, 1.0, ratio))
    if day.rng.random() < 0.5:
        return _case("throttled", day, block, "moved by 5 %")
    return _case("throttled", day, replace(block, throttle_seen=4), "throttled")


def lying_governor(day: Day) -> Case:
    """The governor says 1800 MHz and the cores run at 600 ... 1750."""
    real = float(day.rng.uniform(600.0, 1750.0))
    block = day.block(NOMINAL_MHZ / real)
    lying = [replace(c, effective_mhz=real) for c in (block.start, block.end) if c]
    return _case("lying governor", day, replace(block, start=lying[0], end=lying[1]), "clock runs")


def drifting(day: Day) -> Case:
    """The board becomes 3 % slower while the window lasts."""
    return _case("drift", day, day.block(np.linspace(1.0, 1.03, day.runs())), "moved by")


def bimodal(day: Day) -> Case:
    """Runs fall into two modes 4 ... 12 % apart, in no order."""
    runs, apart = day.runs(), day.rng.uniform(0.04, 0.12)
    share = day.rng.uniform(0.25, 0.75)
    level = np.where(day.rng.random(runs) < share, 1.0 + apart, 1.0)
    return _case("bimodal", day, day.block(level), "two modes")


def lost_power(day: Day) -> Case:
    """0.2 ... 20 % of the meter's readings never came."""
    lost = round(day.rng.uniform(0.002, 0.2) * 3000)
    return Case("lost power", day.true_ns, (day.block(),), day.energy(lost=lost), "lost")


def anchor_drift(day: Day) -> Case:
    """The anchor between the blocks becomes 3 % slower; the program's own blocks are few."""
    after = int(day.rng.integers(1, 6))
    anchors = tuple(day.block(1.0 if i < after else 1.03) for i in range(6))
    return replace(_case("anchor drift", day, day.block(), "anchor's medians"), anchors=anchors)


def clock_offset(day: Day) -> Case:
    """The meter's clock is up to 1.5 s off the board's; `true_j` is what the window took."""
    bench = Bench(float(day.rng.uniform(-1.5, 1.5)), noise_w=0.05, rng=day.rng)
    watts, seconds = float(day.rng.uniform(3.0, 6.0)), float(day.rng.uniform(10.0, 20.0))
    book = EnergyBook(bench.meter(), bench.sleep, idle_s=10.0)
    assert book.open() == ()
    book.open_window()
    began_s = bench.clock_s()
    bench.sleep(seconds, watts)
    true_j = watts * (bench.clock_s() - began_s)
    book.close_window()
    book.inferences = 100
    spent = book.close()
    assert spent
    return Case("clock offset", day.true_ns, (day.block(),), spent, true_j=true_j)


def _case(kind: str, day: Day, block: Block, words: str) -> Case:
    return Case(kind, day.true_ns, (block,), day.energy(), words)


KINDS: tuple[Callable[[Day], Case], ...] = (
    clean,
    throttled,
    lying_governor,
    drifting,
    anchor_drift,
    bimodal,
    lost_power,
    clock_offset,
)


def case(seed: int) -> Case:
    """Return the case of a seed; half of them are clean."""
    rng = np.random.default_rng(seed)
    kind = clean if rng.random() < 0.5 else KINDS[1 + int(rng.integers(len(KINDS) - 1))]
    return kind(Day(rng))


def report(seed: int, plan: TimingPlan) -> Case:
    """Return a clean measurement of several blocks, each off by what processes differ by."""
    day = Day(np.random.default_rng(seed))
    blocks = tuple(
        day.block(1 + float(day.rng.normal(0.0, 0.003)), runs=plan.runs * 10)
        for _ in range(plan.blocks)
    )
    return Case("clean", day.true_ns, blocks, day.energy())
