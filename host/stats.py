"""Statistics derived from raw samples: medians, spread, intervals, outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

OUTLIER_MODIFIED_Z = 14.8
FEWEST_FOR_ORDER = 20  # samples, before their order says anything


@dataclass(frozen=True, slots=True)
class Interval:
    """A median with its 95 % interval, in the unit of the samples."""

    median: float
    low: float
    high: float

    @property
    def half_width_ratio(self) -> float:
        """Half the interval's width as a fraction of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def median_interval(samples: Sequence[float]) -> Interval:
    """Return the median and its 95 % interval: what a percentile bootstrap converges to.

    The rank of a bootstrap median is beta distributed (Maritz and Jarrett 1978); between ranks it
    is interpolated (Hutson 1999). Nothing is drawn, and any number of samples is used in full.
    Samples in the order of time: where neighbours resemble each other they count for fewer.
    """
    from scipy.special import betaincinv

    values = np.asarray(samples, dtype=np.float64)
    n = values.size
    if n == 0:
        raise ValueError("no samples")
    ordered = np.sort(values)
    half = (independent(values) + 1) / 2
    ranks = (n + 1) * betaincinv(half, half, [0.025, 0.975]) - 1
    low, high = (_at(ordered, float(rank)) for rank in ranks)
    return Interval(float(np.median(ordered)), low, high)


def _at(ordered: np.ndarray, rank: float) -> float:
    """Return the value at a fractional rank; five blocks' ranks lie a little beyond the ends."""
    if ordered.size == 1:
        return float(ordered[0])
    below = min(max(int(np.floor(rank)), 0), ordered.size - 2)
    first, second = ordered[below : below + 2]
    return float(first + (rank - below) * (second - first))


def independent(values: np.ndarray) -> float:
    """Return how many independent samples would know the median as well as these do.

    What matters is how long a run stays on one side of the median: the autocorrelations of that
    are added up as long as chance does not explain them (two standard errors).
    """
    n = values.size
    side = np.sign(values - np.median(values))
    power = float((side**2).sum())
    if n < FEWEST_FOR_ORDER or power == 0:
        return float(n)
    spectrum = np.abs(np.fft.rfft(side, 2 * n)) ** 2
    correlations = np.fft.irfft(spectrum)[1 : n // 2] / power
    chance = correlations < 2 / np.sqrt(n)
    end = int(np.argmax(chance)) if chance.any() else correlations.size
    return max(1.0, n / (1.0 + 2.0 * float(correlations[:end].sum())))


def median_absolute_deviation(samples: Sequence[float]) -> float:
    """Return the median of absolute distances from the median."""
    values = np.asarray(samples, dtype=np.float64)
    return float(np.median(np.abs(values - np.median(values))))


def outliers(samples: Sequence[float]) -> list[int]:
    """Return the indices of samples whose modified z-score is beyond the flag; none is dropped."""
    values = np.asarray(samples, dtype=np.float64)
    mad = median_absolute_deviation(samples)
    if mad == 0:
        return []
    z = 0.6745 * np.abs(values - np.median(values)) / mad
    return [int(i) for i in np.flatnonzero(z > OUTLIER_MODIFIED_Z)]


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Return the rank correlation of two series."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)
