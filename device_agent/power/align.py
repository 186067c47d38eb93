"""The offset between a meter's clock and the board's, from edges that both saw; pure arithmetic.

Either the board raises a pin that the meter records (`edge_offset`), or it loads its cores four
times for 250 ms, and the meter's own readings show that (`chirp_offset`). A meter's instant minus
the offset is the board's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from device_agent.power.readings import Readings

PULSE_S, PULSES = 0.25, 4
SEARCH_S = 2.0  # how far the clocks may be apart
# Correlation of the readings with the pulses, below which there was no chirp to see.
LEAST_CORRELATION = 0.5
_STEPS = 8  # of the search, per reading


@dataclass(frozen=True, slots=True)
class Offset:
    """Seconds that the meter's clock is ahead of the board's, and a bound on their error."""

    seconds: float
    bound_s: float


def edge_offset(
    board_s: Sequence[float], meter_s: Sequence[float], sample_s: float = 0.0
) -> Offset | None:
    """Return the offset from the same edges on both clocks; None where their counts differ.

    A meter that looks every `sample_s` sees an edge half of that late, and at most all of it.
    """
    if not board_s or len(board_s) != len(meter_s):
        return None
    apart = np.asarray(meter_s, dtype=np.float64) - np.asarray(board_s, dtype=np.float64)
    late_s = sample_s / 2
    return Offset(float(np.median(apart)) - late_s, float(np.ptp(apart) / 2) + late_s)


def chirp_offset(readings: Readings, pulses_s: Sequence[tuple[float, float]]) -> Offset | None:
    """Return the offset at which readings follow pulses best; None where they follow none.

    `pulses_s` are (begin, end) on the board's clock. The bound is half a reading, plus what noise
    may move the best place by: where the correlation is within its own error of the best.
    """
    if len(readings) < 2 * PULSES or not pulses_s:
        return None
    t, watts = np.asarray(readings, dtype=np.float64).T
    period_s = float(np.median(np.diff(t)))
    coarse = np.arange(-SEARCH_S, SEARCH_S, PULSE_S / 4)
    around = coarse[int(np.argmax(_scores(t, watts, coarse, pulses_s)))]
    offsets = around + np.arange(-PULSE_S / 2, PULSE_S / 2, period_s / _STEPS)
    scores = _scores(t, watts, offsets, pulses_s)
    best = int(np.argmax(scores))
    if scores[best] < LEAST_CORRELATION:
        return None
    near = offsets[scores >= scores[best] - _slack(scores[best], len(t))]
    seconds = float((near[0] + near[-1]) / 2)
    return Offset(seconds, float(near[-1] - near[0]) / 2 + period_s / 2)


def _slack(score: float, readings: int) -> float:
    """Return how much of a correlation is its own error (two standard errors of Pearson's r)."""
    return float(2 * (1 - score**2) / np.sqrt(readings))


def _scores(
    t: np.ndarray, watts: np.ndarray, offsets: np.ndarray, pulses_s: Sequence[tuple[float, float]]
) -> np.ndarray:
    return np.array([_correlation(t - offset, watts, pulses_s) for offset in offsets])


def _correlation(
    t: np.ndarray, watts: np.ndarray, pulses_s: Sequence[tuple[float, float]]
) -> float:
    """Return Pearson's correlation of readings with the pulses, around them alone."""
    begin, end = pulses_s[0][0] - PULSE_S, pulses_s[-1][1] + PULSE_S
    inside = (t >= begin) & (t <= end)
    t, watts = t[inside], watts[inside]
    if len(t) < 2 * PULSES:
        return -1.0
    loaded = np.zeros(len(t))
    for on, off in pulses_s:
        loaded[(t >= on) & (t < off)] = 1.0
    if loaded.std() == 0 or watts.std() == 0:
        return -1.0
    return float(np.corrcoef(loaded, watts)[0, 1])
