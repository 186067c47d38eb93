"""The measurement protocol: its plans and its number; never talks to a board.

PROTOCOL grows when the meaning of a plan or of a verdict (protos/verdict.py) changes; numbers of
two protocols never mix. 2: the effective clock, the set point, the shape of the samples and what
was seen while they were taken decide too. docs/protocol.md says why each figure is what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from host.stats import outliers
from protos.values import Block, TimingPlan
from protos.verdict import Verdict, judge

__all__ = [
    "COMPARE",
    "PROTOCOL",
    "PROTOCOLS",
    "QUICK",
    "REPORT",
    "SEARCH",
    "MeasureProtocol",
    "Verdict",
    "flags",
    "judge",
]

PROTOCOL = 2
MeasureProtocol = TimingPlan
GATE_BAND_C = 3.0
CLOCK_RATIO = 0.01

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
    gate_band_c=GATE_BAND_C,
    clock_ratio=CLOCK_RATIO,
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
    gate_band_c=GATE_BAND_C,
    clock_ratio=CLOCK_RATIO,
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
    gate_band_c=GATE_BAND_C,
    clock_ratio=CLOCK_RATIO,
)
# Two programs differ by Mann-Whitney's test on at least nine blocks each (compare.py).
COMPARE = replace(REPORT, mode="compare", seconds=2.0, cap_s=10.0, blocks=9, idle_s=0.0)
PROTOCOLS: Mapping[str, MeasureProtocol] = {
    protocol.mode: protocol for protocol in (QUICK, SEARCH, REPORT, COMPARE)
}


def flags(blocks: Sequence[Block]) -> tuple[str, ...]:
    """Return what a reader should know although it does not change the verdict."""
    count = sum(len(outliers(block.samples_ns)) for block in blocks)
    found = [f"{count} outliers"] if count else []
    if blocks and all(_clock_unknown(block) for block in blocks):
        found.append("the effective clock is unknown")
    return tuple(dict.fromkeys(found + [note for block in blocks for note in block.notes]))


def _clock_unknown(block: Block) -> bool:
    return block.start is None or None in (block.start.effective_mhz, block.start.nominal_mhz)
