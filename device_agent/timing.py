"""Warm-up and samples of one invocation; knows no program, no board and no statistics library.

The clock is injected. The warm-up is tested, not assumed; every sample is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

from protos.values import Block, TimingPlan

GROUP = 5  # two medians of so many runs decide whether a warm-up has settled
MAX_SAMPLES = 200_000
NS = 1_000_000_000

Invoke = Callable[[], object]
ClockNs = Callable[[], int]
OnPhase = Callable[[str], None]


def take_block(invoke: Invoke, plan: TimingPlan, clock_ns: ClockNs, on_phase: OnPhase) -> Block:
    """Warm up, then sample until the plan is met."""
    on_phase("warmup")
    runs, settled = warm_up(invoke, plan, clock_ns)
    on_phase("sample")
    samples = sample(invoke, plan, clock_ns)
    on_phase("sampled")
    return Block(tuple(samples), runs, settled)


def warm_up(invoke: Invoke, plan: TimingPlan, clock_ns: ClockNs) -> tuple[int, bool]:
    """Run until two neighbouring 5-run medians agree; return the runs and whether they did."""
    start = clock_ns()
    samples: list[int] = []
    while True:
        elapsed_s = (clock_ns() - start) / NS
        if elapsed_s >= plan.warmup_cap_s or len(samples) >= MAX_SAMPLES:
            return len(samples), False
        fewest = max(plan.warmup_runs, 2 * GROUP)
        enough = len(samples) >= fewest and elapsed_s >= plan.warmup_s
        if enough and _settled(samples, plan.settle_ratio):
            return len(samples), True
        for _ in range(GROUP):
            samples.append(_one(invoke, clock_ns))


def sample(invoke: Invoke, plan: TimingPlan, clock_ns: ClockNs) -> list[int]:
    """Return one duration per run, at least the plan's runs and seconds.

    Extended until the half-width of the median's interval is small enough, or the cap is reached.
    """
    start = clock_ns()
    samples: list[int] = []
    check_at = plan.runs
    while len(samples) < MAX_SAMPLES:
        samples.append(_one(invoke, clock_ns))
        if len(samples) < check_at:
            continue
        elapsed_s = (clock_ns() - start) / NS
        if elapsed_s >= plan.cap_s:
            break
        if elapsed_s >= plan.seconds and half_width_ratio(samples) <= plan.half_width_ratio:
            break
        check_at = _next_check(len(samples), elapsed_s, plan)
    return samples


def half_width_ratio(samples: Sequence[int]) -> float:
    """Half-width of the median's 95 % interval over the median, from order statistics.

    The bootstrap gives the same interval for the report; this one costs a sort.
    """
    ordered = sorted(samples)
    n = len(ordered)
    reach = 0.98 * math.sqrt(n)  # 1.96 standard deviations of the binomial(n, 1/2)
    low = max(0, math.floor(n / 2 - reach))
    high = min(n - 1, math.ceil(n / 2 + reach))
    return (ordered[high] - ordered[low]) / 2 / ordered[n // 2]


def _next_check(have: int, elapsed_s: float, plan: TimingPlan) -> int:
    """Return the sample count to stop at next: the end of the plan's seconds, or 10 % more."""
    if 0 < elapsed_s < plan.seconds:
        return have + max(1, int(have * (plan.seconds / elapsed_s - 1) / 2))
    return have + max(1, have // 10)


def _settled(samples: Sequence[int], ratio: float) -> bool:
    before, after = median(samples[-2 * GROUP : -GROUP]), median(samples[-GROUP:])
    return abs(after - before) < ratio * before


def _one(invoke: Invoke, clock_ns: ClockNs) -> int:
    start = clock_ns()
    invoke()
    return clock_ns() - start
