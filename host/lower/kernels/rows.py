"""Walking a row of any width in vectors, and folding it to one number; for emitted kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit, schedule

# Vectors that are worked on together, so that one's latency hides behind the others.
TOGETHER = 4
Body = Callable[[Any, int, int], None]


def each(rows: int, width: int, body: Callable[[Any], None]) -> None:
    """Emit `body(row)` for every row, on all threads where the rows are worth it."""
    with schedule.loop(rows * width)(0, rows) as row, T.sblock("row"):
        T.reads()
        T.writes()
        body(row)


class Walk:
    """How a row of `width` elements is covered: long vectors, then short ones.

    The last short vector ends where the row does; its first lanes may be covered before.
    Made before the loop over rows: the count of long vectors is hidden there.
    """

    def __init__(self, width: int, lanes: int) -> None:
        self.lanes = min(lanes, 1 << (width.bit_length() - 1))
        self.long = TOGETHER * self.lanes
        self.whole = width // self.long
        self._turns = emit.hidden(self.whole) if self.whole else 0
        starts = range(self.whole * self.long, width, self.lanes)
        self._short = [
            (min(at, width - self.lanes), max(0, at + self.lanes - width)) for at in starts
        ]

    def main(self, body: Body) -> None:
        """Emit `body(start, lanes, 0)` for the long vectors."""
        if self.whole:
            with T.serial(0, self._turns) as step:
                body(step * self.long, self.long, 0)

    def rest(self, body: Body) -> None:
        """Emit `body(start, lanes, seen)` for the short ones; `seen` lanes were covered before."""
        for start, seen in self._short:
            body(start, self.lanes, seen)

    def all(self, body: Body) -> None:
        """Emit both."""
        self.main(body)
        self.rest(body)


class Fold:
    """A row combined to one number, in vectors until `result`."""

    def __init__(self, walk: Walk, combine: Callable[[Any, Any], Any], start: Any) -> None:
        self._combine, self._start = combine, start
        widths = {walk.lanes, walk.long} if walk.whole else {walk.lanes}
        self._sums = {
            lanes: emit.registers(1, emit.vector("float32", lanes)) for lanes in sorted(widths)
        }
        for lanes, total in self._sums.items():
            emit.clear(total, start, lanes)

    def add(self, value: Any, lanes: int, seen: int) -> None:
        """Combine with all lanes of a vector but the first `seen`."""
        if seen:
            fresh = tirx.Ramp(0, 1, lanes) >= tirx.Broadcast(seen, lanes)
            value = tirx.Select(fresh, value, tirx.Broadcast(self._start, lanes))
        total = self._sums[lanes]
        T.buffer_store(total, self._combine(total[0], value), [0])

    def result(self) -> Any:
        """Return the number."""
        narrow, *wide = ((lanes, total[0]) for lanes, total in self._sums.items())
        lanes, value = narrow
        for own, total in wide:
            value = self._combine(value, self._halved(total, own, lanes))
        return T.bind(self._halved(value, lanes, 1))

    def _halved(self, value: Any, lanes: int, until: int) -> Any:
        while lanes > until:
            lanes //= 2
            value = T.bind(value)
            value = self._combine(_part(value, 0, lanes), _part(value, lanes, lanes))
        return value


def _part(value: Any, first: int, lanes: int) -> Any:
    return tirx.Shuffle([value], list(range(first, first + lanes)))


def total(a: Any, b: Any) -> Any:
    """Combine by addition."""
    return a + b


def largest(a: Any, b: Any) -> Any:
    """Combine by maximum."""
    return te.max(a, b)
