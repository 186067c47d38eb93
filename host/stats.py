"""Statistics derived from raw samples: medians, spread, intervals, outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

OUTLIER_MODIFIED_Z = 14.8


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
    """
    from scipy.special import betaincinv

    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    n = ordered.size
    if n == 0:
        raise ValueError("no samples")
    half = (n + 1) / 2
    ranks = (n + 1) * betaincinv(half, half, [0.025, 0.975]) - 1
    low, high = np.interp(ranks, np.arange(n), ordered)
    return Interval(float(np.median(ordered)), float(low), float(high))


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
