"""Statistics derived from raw samples: medians, spread, bootstrap intervals, comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

BOOTSTRAP_RESAMPLES = 2000
OUTLIER_MODIFIED_Z = 14.8


@dataclass(frozen=True, slots=True)
class Interval:
    """A median with its 95 % bootstrap interval, in the unit of the samples."""

    median: float
    low: float
    high: float

    @property
    def half_width_ratio(self) -> float:
        """Half the interval's width as a fraction of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def median_interval(samples: Sequence[float], seed: int = 0) -> Interval:
    """Return the median and its percentile-bootstrap 95 % interval."""
    values = np.asarray(samples, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no samples")
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, values.size, (BOOTSTRAP_RESAMPLES, min(values.size, 500)))
    medians = np.median(values[picks], axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return Interval(float(np.median(values)), float(low), float(high))


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
