"""Fits the rates of a runtime to measured programs; every rate is physical, none may be negative.

The time of a program is linear in the reciprocals of the rates, so that the fit of least absolute
relative errors is a few weighted non-negative least squares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from hil_lab.simboard.published import Table, Work

ROUNDS = 100
# Errors below this share count alike: the fit follows the middle of the measurements.
LEAST_ERROR = 0.02

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates to be found: of products and of results by kind, and whether bytes take time."""

    products: Sequence[str]
    elements: Sequence[str] = ()
    memory: bool = False

    def terms(self, works: Sequence[Work]) -> list[float]:
        """Return how much a program has of every rate: 1e9 MAC, 1e6 elements, 1e9 bytes."""
        kinds = (*self.products, *self.elements)
        named = [(next((k for k in w.kinds if k in kinds), ""), w) for w in works]
        macs = [sum(w.macs for k, w in named if k == kind) / 1e9 for kind in self.products]
        elements = [sum(w.elements for k, w in named if k == kind) / 1e6 for kind in self.elements]
        return [*macs, *elements, *([_gbytes(works)] if self.memory else [])]

    def table(self, source: str, found: Sequence[float]) -> Table:
        """Return the table of reciprocal rates; what takes no time is left out."""
        values = [1 / x if x else math.inf for x in found]
        cut = len(self.products)
        elements = dict(zip(self.elements, values[cut:], strict=False))
        products = dict(zip(self.products, values, strict=False))
        return Table(source, products, elements, values[-1] if self.memory else math.inf)


def _gbytes(works: Sequence[Work]) -> float:
    return sum(work.bytes_moved for work in works) / 1e9


def fit(programs: Sequence[Sequence[Work]], ms: Sequence[float], rates: Rates) -> list[float]:
    """Return the reciprocals of the rates with the least mean absolute relative error.

    Raises ValueError where a program has nothing that takes time.
    """
    terms = np.asarray([rates.terms(works) for works in programs])
    shares = terms / (np.asarray(ms)[:, None] / 1e3)
    weights: Floats = np.ones(len(shares))
    found: Floats = np.zeros(shares.shape[1])
    for _ in range(ROUNDS):
        found, _ = nnls(shares * weights[:, None], weights)
        off = np.abs(shares @ found - 1)
        weights = 1 / np.sqrt(np.maximum(off, LEAST_ERROR))
    return [float(x) for x in found]


def predicted_ms(works: Sequence[Work], table: Table) -> float:
    """Return the milliseconds of a program."""
    return 1e3 * sum(sum(table.seconds(work).values()) for work in works)


def halves(count: int) -> tuple[slice, slice]:
    """Return every second one, and the others, of a file's rows."""
    return slice(0, count, 2), slice(1, count, 2)
