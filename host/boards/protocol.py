"""The measurement protocol: plans, and the verdict on what came back; never talks to a board.

PROTOCOL grows when the meaning of a plan or of a verdict changes; numbers of two protocols never
mix. The figures are those of the lab's board notes: warm-up, search mode, report mode, flags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from host.stats import outliers
from protos.values import Block, TimingPlan

PROTOCOL = 1
Verdict = Literal["trusted", "suspect", "invalid"]
MeasureProtocol = TimingPlan

SPREAD_RATIO = 0.05  # standard deviation over mean
PEAK_RATIO = 1.5  # largest over median
_THROTTLE_NAMES = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")

SEARCH = MeasureProtocol(
    number=PROTOCOL,
    mode="search",
    warmup_runs=10,
    warmup_s=2.0,
    warmup_cap_s=10.0,
    settle_ratio=0.01,
    runs=30,
    seconds=1.0,
    cap_s=10.0,
    half_width_ratio=0.01,
    blocks=1,
    gate_wait_s=120.0,
    gate_temperature_c=65.0,
    idle_s=0.0,
)
REPORT = MeasureProtocol(
    number=PROTOCOL,
    mode="report",
    warmup_runs=10,
    warmup_s=2.0,
    warmup_cap_s=10.0,
    settle_ratio=0.01,
    runs=10,
    seconds=10.0,
    cap_s=30.0,
    half_width_ratio=0.01,
    blocks=5,
    gate_wait_s=300.0,
    gate_temperature_c=65.0,
    idle_s=10.0,
)
# For tests and first contact: the same rules, little time, wide interval.
QUICK = MeasureProtocol(
    number=PROTOCOL,
    mode="quick",
    warmup_runs=10,
    warmup_s=0.05,
    warmup_cap_s=0.5,
    settle_ratio=0.05,
    runs=30,
    seconds=0.1,
    cap_s=0.5,
    half_width_ratio=0.05,
    blocks=1,
    gate_wait_s=1.0,
    gate_temperature_c=75.0,
    idle_s=0.0,
)
PROTOCOLS: Mapping[str, MeasureProtocol] = {"quick": QUICK, "search": SEARCH, "report": REPORT}


def judge(plan: MeasureProtocol, blocks: Sequence[Block]) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict on a measurement with its reasons; outliers are named, never dropped."""
    invalid = [reason for block in blocks for reason in _invalid(plan, block)]
    suspect = [reason for block in blocks for reason in _suspect(plan, block)]
    if len(blocks) < plan.blocks:
        invalid.append(f"{len(blocks)} of {plan.blocks} blocks")
    verdict: Verdict = "invalid" if invalid else "suspect" if suspect else "trusted"
    return verdict, tuple(dict.fromkeys(invalid + suspect))


def flags(blocks: Sequence[Block]) -> tuple[str, ...]:
    """Return what a reader should know although it does not change the verdict."""
    count = sum(len(outliers(block.samples_ns)) for block in blocks)
    found = [f"{count} outliers"] if count else []
    return tuple(dict.fromkeys(found + [note for block in blocks for note in block.notes]))


def _invalid(plan: MeasureProtocol, block: Block) -> Iterator[str]:
    if len(block.samples_ns) < plan.runs:
        yield f"{len(block.samples_ns)} of {plan.runs} runs"
    for conditions in (block.start, block.end):
        bits = (conditions.throttle_bits or 0) if conditions else 0
        for bit, name in enumerate(_THROTTLE_NAMES):
            if bits & 1 << bit:
                yield name


def _suspect(plan: MeasureProtocol, block: Block) -> Iterator[str]:
    samples = np.asarray(block.samples_ns, dtype=np.float64)
    if samples.std() >= SPREAD_RATIO * samples.mean():
        yield f"standard deviation is {SPREAD_RATIO:.0%} or more"
    if samples.max() > PEAK_RATIO * np.median(samples):
        yield f"slowest run is over {PEAK_RATIO:g} times the median"
    if not block.settled:
        yield "warm-up did not settle"
    if any(c.running_ns < c.enabled_ns for c in block.counters):
        yield "counters were multiplexed"
    yield from (note for note in block.notes if note.startswith("gate:"))
    if _throttled_since(block):
        yield "throttled during the window"


def _throttled_since(block: Block) -> bool:
    """Whether a sticky throttle bit rose between start and end."""
    if block.start is None or block.end is None:
        return False
    return bool((block.end.throttle_bits or 0) >> 16 & ~((block.start.throttle_bits or 0) >> 16))
