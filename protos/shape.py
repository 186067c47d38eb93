"""What the order and the spread of samples betray: a level that moved, two modes; no verdict here.

Throttle bits can be silent: firmware clears the sticky ones, and a clock may be lowered by other
means. The samples themselves are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FEWEST = 20  # samples, before anything is said of their shape
EDGE = 5  # samples at either end of a window that may be a segment of their own
# The largest of n correlated z-scores stays below this in all but about 1 of 10,000 quiet windows.
CHANGE_Z = 5.0
SPIKE_Z = 4.0
MODE_SHARE = 0.1  # of all samples, at least, in either mode
# Medians this many spreads apart. The two halves of many normal samples are 2.3 apart; of few they
# are by chance more, in 999 of 1000 cases by less than MODE_CHANCE over their number.
MODE_SEPARATION = 4.2
HALVES_SEPARATION, MODE_CHANCE = 2.3, 140.0
_MAD_TO_SD = 1.4826
_SUCCESSIVE_TO_SD = 2 / np.sqrt(np.pi)  # mean absolute difference of neighbours, per deviation


@dataclass(frozen=True, slots=True)
class Change:
    """A level that moved by `size_ratio`: in one step at `at_ratio` of the window, or steadily."""

    size_ratio: float
    at_ratio: float
    steady: bool = False


@dataclass(frozen=True, slots=True)
class Modes:
    """Two levels that alternate, `apart_ratio` apart, and the share of samples in the upper one."""

    apart_ratio: float
    share_above: float


def change(samples: Sequence[int]) -> Change | None:
    """Return how the level moved within a window; None where chance explains it.

    The scan compares the means before and after every place, in units of the noise of neighbours,
    which a single move hardly touches. Single spikes are clipped first.
    """
    x = np.asarray(samples, dtype=np.float64)
    n = x.size
    if n < FEWEST:
        return None
    noise = float(np.abs(np.diff(x)).mean() / _SUCCESSIVE_TO_SD)
    x = _without_spikes(x, noise)
    before = np.arange(EDGE, n - EDGE + 1)
    sums = np.cumsum(x)[before - 1]
    apart = (x.sum() - sums) / (n - before) - sums / before
    z = np.abs(apart) / (max(noise, 1e-12) * np.sqrt(1 / before + 1 / (n - before)))
    place = int(np.argmax(z))
    if z[place] < CHANGE_Z:
        return None
    return _best_fit(x, int(before[place]))


def modes(samples: Sequence[int]) -> Modes | None:
    """Return the two modes of samples, None where they have one.

    The split with the least variance within its halves; spreads are robust, so that a few slow
    runs are no mode.
    """
    x = np.sort(np.asarray(samples, dtype=np.float64))
    n = x.size
    if n < FEWEST:
        return None
    first, last = int(np.ceil(MODE_SHARE * n)), int(np.floor((1 - MODE_SHARE) * n))
    split = np.arange(first, last + 1)
    sums, total = np.cumsum(x)[split - 1], x.sum()
    between = sums**2 / split + (total - sums) ** 2 / (n - split)
    at = int(split[int(np.argmax(between))])
    low, high = x[:at], x[at:]
    apart = float(np.median(high) - np.median(low))
    spread = float(np.hypot(_spread(low), _spread(high)) / np.sqrt(2))
    if apart <= max(MODE_SEPARATION, HALVES_SEPARATION + MODE_CHANCE / n) * spread:
        return None
    return Modes(apart / float(np.median(low)), (n - at) / n)


def _best_fit(x: Any, at: int) -> Change:
    """Say whether a step or a steady move fits better; sizes are relative to where it began."""
    n = x.size
    low, high = x[:at], x[at:]
    step_error = ((low - low.mean()) ** 2).sum() + ((high - high.mean()) ** 2).sum()
    place = np.arange(n) - (n - 1) / 2
    slope = float((place * x).sum() / (place**2).sum())
    line_error = ((x - x.mean() - slope * place) ** 2).sum()
    if line_error < step_error:
        began = x.mean() - slope * n / 2
        return Change(slope * n / began, 0.5, steady=True)
    return Change(float(np.median(high) / np.median(low)) - 1, at / n)


def _without_spikes(x: Any, noise: float) -> Any:
    """Clip what stands out of the median of five neighbours."""
    padded = np.pad(x, 2, mode="edge")
    local = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    return np.clip(x, local - SPIKE_Z * noise, local + SPIKE_Z * noise)


def _spread(x: Any) -> float:
    return _MAD_TO_SD * float(np.median(np.abs(x - np.median(x))))
