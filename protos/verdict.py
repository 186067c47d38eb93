"""The verdict on a measurement, with its reasons: a pure rule that board and host share.

The board signs what it judges (receipt), the host judges again what it received. The rule belongs
to the protocol number of the plan: changing one changes the other (host/boards/protocol.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Literal

import numpy as np

from protos.shape import change, modes
from protos.values import Block, Conditions, Counter, Energy, TimingPlan

Verdict = Literal["trusted", "suspect", "invalid"]

SPREAD_RATIO = 0.05  # standard deviation over mean
PEAK_RATIO = 1.5  # largest over median
MOVED_RATIO = 0.02  # a level that moved by this is worth saying ...
MOVED_FAR_RATIO = 0.05  # ... and by this, the window is two windows
ANCHOR_RATIO = 0.02  # of the anchor's medians among themselves
BLOCKS_RATIO = 0.05  # of block medians among themselves
WINDOW_CLOCK_RATIO = 0.03  # cycles are of user space alone, busy time is not
WARMING_C = 10.0
LOST_RATIO = 0.001
ENERGY_S, ENERGY_READINGS = 10.0, 1000
ENERGY_ERROR_RATIO = 0.05
IDLE_RATIO = 0.1
_BIT_NAMES = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
_STICKY = 16
CYCLES = "cycles"


def judge(
    plan: TimingPlan, blocks: Sequence[Block], anchors: Sequence[Block] = ()
) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict on a latency with its reasons; outliers change nothing."""
    invalid = [reason for block in blocks for reason in _invalid(plan, block)]
    suspect = [reason for block in blocks for reason in _suspect(block)]
    if len(blocks) < plan.blocks:
        invalid.append(f"{len(blocks)} of {plan.blocks} blocks")
    suspect += _apart("block medians", blocks, BLOCKS_RATIO)
    suspect += _apart("the anchor's medians", anchors, ANCHOR_RATIO)
    return _verdict(invalid, suspect)


def judge_energy(energy: Energy) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict on joules with its reasons; a hardware counter has no readings to lose."""
    if not energy.inferences or energy.active_j <= 0:
        return "invalid", ("no energy was measured",)
    return _verdict([], list(_doubtful_energy(energy)))


def _verdict(invalid: list[str], suspect: list[str]) -> tuple[Verdict, tuple[str, ...]]:
    verdict: Verdict = "invalid" if invalid else "suspect" if suspect else "trusted"
    return verdict, tuple(dict.fromkeys(invalid + suspect))


def _invalid(plan: TimingPlan, block: Block) -> Iterator[str]:
    if len(block.samples_ns) < plan.runs:
        yield f"{len(block.samples_ns)} of {plan.runs} runs"
    present = block.throttle_seen or 0
    for conditions in (block.start, block.end):
        present |= (conditions.throttle_bits or 0) if conditions else 0
        if conditions and (why := wrong_clock(conditions, plan.clock_ratio)):
            yield why
    yield from (name for bit, name in enumerate(_BIT_NAMES) if present & 1 << bit)
    moved = change(block.samples_ns)
    if moved and abs(moved.size_ratio) >= MOVED_FAR_RATIO:
        yield "the samples moved by 5 % or more within the window: throttled, or another load"


def _suspect(block: Block) -> Iterator[str]:
    samples = np.asarray(block.samples_ns, dtype=np.float64)
    if samples.std() >= SPREAD_RATIO * samples.mean():
        yield f"standard deviation is {SPREAD_RATIO:.0%} or more"
    if samples.max() > PEAK_RATIO * np.median(samples):
        yield f"slowest run is over {PEAK_RATIO:g} times the median"
    moved, split = change(block.samples_ns), modes(block.samples_ns)
    if moved and MOVED_RATIO <= abs(moved.size_ratio) < MOVED_FAR_RATIO:
        yield "the samples moved by 2 % or more within the window"
    if split and split.apart_ratio >= MOVED_RATIO and moved is None:
        yield "the samples have two modes"
    if not block.settled:
        yield "warm-up did not settle"
    yield from _doubtful_counters(block)
    yield from (note for note in block.notes if note.startswith("gate:"))
    yield from _doubtful_conditions(block)


def _doubtful_counters(block: Block) -> Iterator[str]:
    if any(counter.multiplexed for counter in block.counters):
        yield "counters were multiplexed"
    nominal_mhz = block.start.nominal_mhz if block.start else None
    found_mhz = next((window_mhz(c) for c in block.counters if c.name == CYCLES), None)
    if nominal_mhz and found_mhz and abs(found_mhz / nominal_mhz - 1) > WINDOW_CLOCK_RATIO:
        yield f"the window's cycles are {WINDOW_CLOCK_RATIO:.0%} or more off the nominal clock"


def _doubtful_conditions(block: Block) -> Iterator[str]:
    start, end = block.start, block.end
    if start is None or end is None:
        return
    after = (block.throttle_seen or 0) | (end.throttle_bits or 0)
    if after >> _STICKY & ~((start.throttle_bits or 0) >> _STICKY):
        yield "throttled during the window"
    warmest = [c for c in (end.temperature_c, block.hottest_c) if c is not None]
    if start.temperature_c is not None and warmest:
        apart_c = max(abs(c - start.temperature_c) for c in warmest)
        if apart_c >= WARMING_C:
            yield f"the temperature moved by {WARMING_C:g} C or more"


def _doubtful_energy(energy: Energy) -> Iterator[str]:
    if energy.lost > LOST_RATIO * (energy.readings + energy.lost):
        yield f"more than {LOST_RATIO:.1%} of the power readings were lost"
    if energy.active_s < ENERGY_S:
        yield f"energy over less than {ENERGY_S:g} s"
    if 0 < energy.readings < ENERGY_READINGS:
        yield f"fewer than {ENERGY_READINGS} power readings"
    if energy.error_j > ENERGY_ERROR_RATIO * energy.active_j:
        yield f"the bound on the energy's error is over {ENERGY_ERROR_RATIO:.0%}"
    before_w, after_w = energy.idle_w, energy.idle_after_w
    if before_w and after_w and abs(after_w / before_w - 1) > IDLE_RATIO:
        yield f"idle power before and after differ by over {IDLE_RATIO:.0%}"


def wrong_clock(conditions: Conditions, ratio: float) -> str:
    """Say how the effective clock is off the nominal one by more than a ratio, or ''."""
    found, nominal = conditions.effective_mhz, conditions.nominal_mhz
    if not ratio or found is None or nominal is None or abs(found / nominal - 1) <= ratio:
        return ""
    asked = conditions.clock_mhz
    says = "" if asked is None else f", the governor says {asked:.0f}"
    return f"the clock runs at {found:.0f} MHz instead of {nominal:.0f}{says}"


def throttling(bits: int) -> tuple[str, ...]:
    """Say what throttle bits mean: what is so now, else what has been since the last look."""
    present = [name for bit, name in enumerate(_BIT_NAMES) if bits & 1 << bit]
    past = [name for bit, name in enumerate(_BIT_NAMES) if bits >> _STICKY & 1 << bit]
    return (*present, *(f"was {name}" for name in past if name not in present))


def window_mhz(cycles: Counter) -> float | None:
    """Return cycles over busy time; None where nothing ran."""
    return cycles.value / cycles.enabled_ns * 1e3 if cycles.enabled_ns else None


def _apart(what: str, blocks: Sequence[Block], ratio: float) -> list[str]:
    medians = [median(block.samples_ns) for block in blocks if block.samples_ns]
    if len(medians) < 2 or max(medians) - min(medians) <= ratio * median(medians):
        return []
    return [f"{what} differ by over {ratio:.0%}"]
