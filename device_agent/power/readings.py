"""From (seconds, watts) readings to the joules of a window: trims, fills, counts what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from device_agent.power import Window

# Around an edge the readings belong to what was before it: the meter averages, the load settles.
TRIM_S = 0.2
# Where trimming would leave less than this share of a window, all of it counts.
LEAST_SHARE = 0.5

Readings = Sequence[tuple[float, float]]


def energy(readings: Readings) -> float:
    """Return the joules of readings, by trapezoids."""
    return sum((t1 - t0) * (w0 + w1) / 2 for (t0, w0), (t1, w1) in pairwise(readings))


def lost(readings: Readings) -> int:
    """Return how many readings were due and never came, from the gaps between the others."""
    gaps = [t1 - t0 for (t0, _), (t1, _) in pairwise(readings)]
    if not gaps or (usual := median(gaps)) <= 0:
        return 0
    return sum(max(0, round(gap / usual) - 1) for gap in gaps)


def window(readings: Readings, start_s: float, stop_s: float, trim_s: float = TRIM_S) -> Window:
    """Return the joules of [start, stop] by the mean power of its trimmed middle.

    Readings at both edges are interpolated, so that the seconds are the window's.
    """
    seconds = stop_s - start_s
    if seconds <= 0 or len(readings) < 2:
        return Window(0.0, max(0.0, seconds), len(readings))
    if seconds - 2 * trim_s < LEAST_SHARE * seconds:
        trim_s = 0.0
    middle = _between(readings, start_s + trim_s, stop_s - trim_s)
    span_s = middle[-1][0] - middle[0][0]
    inside = [r for r in readings if start_s <= r[0] <= stop_s]
    watts = energy(middle) / span_s
    return Window(watts * seconds, seconds, len(inside), lost(inside))


def _between(readings: Readings, start_s: float, stop_s: float) -> list[tuple[float, float]]:
    inside = [r for r in readings if start_s < r[0] < stop_s]
    edges = [(t, _at(readings, t)) for t in (start_s, stop_s)]
    return [edges[0], *inside, edges[1]]


def _at(readings: Readings, t: float) -> float:
    """Return the watts at an instant, between its neighbours; beyond the ends, the nearest."""
    before = next((r for r in reversed(readings) if r[0] <= t), readings[0])
    after = next((r for r in readings if r[0] >= t), readings[-1])
    if after[0] == before[0]:
        return before[1]
    share = min(1.0, max(0.0, (t - before[0]) / (after[0] - before[0])))
    return before[1] + share * (after[1] - before[1])
