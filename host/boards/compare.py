"""Whether two programs, or one program twice, take the same time; pure, on raw samples.

Mann-Whitney's test on at least nine block medians each says whether chance explains a difference;
the practical threshold says whether anybody should care. Only both together are a finding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from host.boards.types import Measurement
from host.errors import CallerError

BLOCKS = 9
SIGNIFICANCE = 0.05
THRESHOLD_RATIO = 0.02

Outcome = Literal["same", "slower", "faster", "unclear"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the second compares with the first: its ratio, and how likely chance makes such a one.

    `unclear`: the difference is over the threshold, and chance would explain it; measure more.
    `pieces`: blocks were cut in consecutive parts, which are less independent than processes.
    """

    ratio: float
    p: float
    outcome: Outcome
    blocks: tuple[int, int]
    pieces: bool
    threshold_ratio: float = THRESHOLD_RATIO


def compare(
    before: Measurement, after: Measurement, threshold_ratio: float = THRESHOLD_RATIO
) -> Comparison:
    """Compare two measurements of one protocol on one kind of board.

    Raises CallerError where they are unlike or have too few samples.
    """
    _check_alike(before, after)
    first, second = block_medians(before), block_medians(after)
    ratio = median(second) / median(first)
    p = _mann_whitney(first, second)
    cut = len(before.blocks) < BLOCKS or len(after.blocks) < BLOCKS
    outcome = _outcome(ratio, p, threshold_ratio)
    return Comparison(ratio, p, outcome, (len(first), len(second)), cut, threshold_ratio)


def block_medians(measurement: Measurement) -> list[float]:
    """Return at least nine medians (ns): of the blocks, each cut in parts where they are fewer."""
    parts = math.ceil(BLOCKS / len(measurement.blocks))
    found: list[float] = []
    for block in measurement.blocks:
        samples = block.samples_ns
        if len(samples) < parts:
            raise CallerError(
                f"{len(samples)} runs a block are too few to compare: measure with another protocol"
            )
        edges = [len(samples) * i // parts for i in range(parts + 1)]
        found += [median(samples[a:b]) for a, b in pairwise(edges)]
    return found


def _outcome(ratio: float, p: float, threshold_ratio: float) -> Outcome:
    if abs(ratio - 1) <= threshold_ratio:
        return "same"
    if p >= SIGNIFICANCE:
        return "unclear"
    return "slower" if ratio > 1 else "faster"


def _check_alike(before: Measurement, after: Measurement) -> None:
    if before.protocol != after.protocol:
        raise CallerError("measurements of two protocols or plans are not compared")
    kinds = [m.fingerprint.get("kind") for m in (before, after)]
    if kinds[0] != kinds[1]:
        raise CallerError(f"measurements of two kinds of board are not compared: {kinds}")


def _mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    from scipy.stats import mannwhitneyu

    if len({*first, *second}) == 1:
        return 1.0  # nothing to rank
    return float(mannwhitneyu(first, second).pvalue)
