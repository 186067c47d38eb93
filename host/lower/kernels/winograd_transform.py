"""Winograd's transforms by Cook and Toom's rule: the matrices, and their products with vectors.

The points are those of device_agent.weights, which transforms the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

Matrix = tuple[tuple[float, ...], ...]
TAPS = 3
# Where polynomials are evaluated, besides infinity, by m. Roots of two lose fewer digits than 2:
# the largest factors of the transforms are smaller.
POINTS: dict[int, tuple[float, ...]] = {
    2: (0.0, 1.0, -1.0),
    4: (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5)),
}


_zip = partial(zip, strict=True)


@lru_cache
def input_matrix(outputs: int) -> Matrix:
    """Return B' [t, t]: each point's polynomial through zero at all others (Cook and Toom)."""
    points = POINTS[outputs]
    rows = [np.poly([q for q in points if q != p])[::-1] for p in points]
    padded = [(*row, *[0.0] * (len(points) + 1 - len(row))) for row in rows]
    return _plain([*padded, tuple(np.poly(points)[::-1])])


@lru_cache
def output_matrix(outputs: int) -> Matrix:
    """Return A' [m, t]: powers of the points."""
    rows = [[p**power for p in POINTS[outputs]] + [0.0] for power in range(outputs)]
    rows[-1][-1] = 1.0
    return _plain(rows)


def _plain(rows: Sequence[Sequence[float]]) -> Matrix:
    """Return numbers without the rounding of their making, so that zeros and ones are such."""
    return tuple(tuple(float(round(value, 12)) for value in row) for row in rows)


def combine(matrix: Matrix, vectors: Sequence[Any]) -> list[Any]:
    """Return matrix times vectors, each bound. Points come in pairs of opposite signs: their rows
    share what is equal and what is opposite.
    """
    made: list[Any] = []
    for number, row in enumerate(matrix):
        before = matrix[number - 1]
        if number % 2 == 0 and number and _mirrored(before, row):
            equal = T.bind(_dot([x if x == y else 0.0 for x, y in _zip(before, row)], vectors))
            opposite = T.bind(_dot([x if x != y else 0.0 for x, y in _zip(before, row)], vectors))
            made[-1:] = [T.bind(equal + opposite), T.bind(equal - opposite)]
        else:
            made.append(_dot(row, vectors))
    return [T.bind(value) for value in made]


def fold(matrix: Matrix, vectors: Sequence[Any]) -> list[Any]:
    """Return what `combine` does, for a matrix whose columns come in such pairs."""
    columns, folded = list(_zip(*matrix)), list(vectors)
    for j in range(1, len(columns) - 1, 2):
        first, second = columns[j], columns[j + 1]
        a, b = vectors[j], vectors[j + 1]
        folded[j : j + 2] = [T.bind(a + b), T.bind(a - b)]
        columns[j] = tuple(x if x == y else 0.0 for x, y in _zip(first, second))
        columns[j + 1] = tuple(x if x != y else 0.0 for x, y in _zip(first, second))
    return [T.bind(_dot(row, folded)) for row in _zip(*columns)]


def _mirrored(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(abs(x) == abs(y) for x, y in _zip(a, b))


def _dot(row: Sequence[float], vectors: Sequence[Any]) -> Any:
    total: Any = None
    for factor, vector in zip(row, vectors, strict=True):
        if factor == 0:
            continue
        term = vector if abs(factor) == 1 else vector * tirx.const(abs(factor), "float32")
        if total is None:
            total = term if factor > 0 else term * tirx.const(-1.0, "float32")
        else:
            total = total + term if factor > 0 else total - term
    return total
