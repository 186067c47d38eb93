"""Latency of any program from its kernel table, learned from a dataset; says how sure it is.

Trees of random splits (extremely randomised trees, Geurts et al. 2006) over what the kernels of
each kind execute and move; their spread is the uncertainty by which datasets choose what to measure
next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from host.dataset.spaces import Row

Floats = NDArray[np.float64]
TREES = 100
LEAST_PROGRAMS = 8
# Logarithms of nothing.
_NONE = 1.0


@dataclass(frozen=True, eq=False)
class Latencies:
    """Milliseconds of n programs, and the standard deviation of their logarithms."""

    ms: Floats
    spread: Floats


class ProgramModel:
    """Learns from programs of known latency; fitted anew to all of them."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._kinds: tuple[str, ...] = ()
        self._trees: Any = None

    @property
    def ready(self) -> bool:
        """Whether it was fitted."""
        return self._trees is not None

    def fit(self, programs: Sequence[Sequence[Row]], ms: Sequence[float]) -> None:
        """Learn from kernel tables and milliseconds; a handful teaches nothing."""
        if len(programs) < LEAST_PROGRAMS:
            return
        self._kinds = tuple(sorted({row.kind for rows in programs for row in rows}))
        self._trees = ExtraTreesRegressor(TREES, random_state=self._seed)
        self._trees.fit(self._features(programs), np.log(np.asarray(ms)))

    def __call__(self, programs: Sequence[Sequence[Row]]) -> Latencies:
        """Return the forecasts of programs."""
        features = self._features(programs)
        logs = np.stack([tree.predict(features) for tree in self._trees.estimators_])
        return Latencies(np.exp(logs.mean(0)), logs.std(0))

    def _features(self, programs: Sequence[Sequence[Row]]) -> Floats:
        return np.asarray([self._one(rows) for rows in programs], dtype=np.float64)

    def _one(self, rows: Sequence[Row]) -> list[float]:
        """Logarithms of what all kernels do, then of what those of each kind do."""
        groups = [list(rows), *([r for r in rows if r.kind == kind] for kind in self._kinds)]
        return [value for group in groups for value in _sums(group)]


def _sums(rows: Sequence[Row]) -> list[float]:
    """Multiply-accumulates (also those of bit pairs), operations, bytes moved and of weights."""
    sums = [
        sum(row.macs for row in rows),
        sum(row.macs * row.weight_bits * row.act_bits for row in rows),
        sum(row.ops for row in rows),
        sum(row.bytes_read + row.bytes_written for row in rows),
        sum(row.weight_bytes for row in rows),
    ]
    return [float(len(rows)), *(float(np.log(max(total, _NONE))) for total in sums)]
