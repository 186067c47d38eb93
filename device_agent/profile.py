"""Time and count every kernel of a program by call order; never attributes by a name alone.

Around each kernel the instrument itself takes time: the runtime hands every tensor to Python. How
much is seen in every run, since the same way leads from the hook before to this kernel's, with no
kernel in between; its median is taken off each sample. Plain runs are timed in turn with watched
ones, so that the sum can be held against the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from device_agent.counters import Counters, Pass, Reading, counted
from device_agent.program import Program, Watch
from protos.values import Counter, KernelTiming, Profile

WARMUP_RUNS = 2


def profile(
    program: Program, repeats: int, clock_ns: Callable[[], int], counters: Counters
) -> Profile:
    """Return one sample per kernel row and repeat, and as many of plain runs between them.

    Events are counted in as many further runs a pass, because reading them takes time as well.
    """
    invoke = program.bound(program.example())
    for _ in range(WARMUP_RUNS):
        invoke()
    stopwatch = _Gauge(program, lambda: (clock_ns(),))
    whole_ns = []
    for _ in range(repeats):
        start = clock_ns()
        invoke()
        whole_ns.append(clock_ns() - start)
        program.watched(invoke, stopwatch)
    tallies = [(each.names, _tally(program, invoke, repeats, each)) for each in counters.passes]
    kernels = tuple(
        _timing(
            i,
            row,
            stopwatch.rows[i],
            tuple(event for names, tally in tallies for event in _events(names, tally.rows[i])),
        )
        for i, row in enumerate(program.manifest["kernels"])
    )
    events = [event for kernel in kernels for event in kernel.counters]
    shared = dict.fromkeys(e.name for e in events if e.multiplexed)
    scaled = (f"counter {name}: multiplexed, its counts are estimates" for name in shared)
    return Profile(kernels, tuple(whole_ns), (*counters.notes, *counters.silent(events), *scaled))


def _tally(program: Program, invoke: Callable[[], None], repeats: int, each: Pass) -> _Gauge:
    """Return what one pass of events read around every kernel."""
    tally = _Gauge(program, each.readings)
    each.start()
    for _ in range(repeats):
        program.watched(invoke, tally)
    each.stop()
    return tally


@dataclass(frozen=True, slots=True)
class _Row:
    """What was read around a kernel, and around the way to it, from hook to hook; one a repeat."""

    around: list[tuple[Any, Any]] = field(default_factory=list)
    way: list[tuple[Any, Any]] = field(default_factory=list)


class _Gauge(Watch):
    """Reads something last before and first after whatever lies between two hooks."""

    def __init__(self, program: Program, read: Callable[[], Any]) -> None:
        super().__init__(program.manifest)
        self._read = read
        self._left: Any = None
        self._way: tuple[Any, Any] | None = None
        self.rows = [_Row() for _ in program.manifest["kernels"]]

    def __call__(self, func: Any, name: str, before: bool, ret: Any, *args: Any) -> int:
        entered = self._read()
        if name in self._known:
            if before:
                # Nothing leads to the first call of a run.
                self._way = (self._left or entered, entered)
            else:
                row = self.rows[self.count(name)]
                row.around.append((self._left, entered))
                row.way.append(self._way or (entered, entered))
        self._left = self._read()
        return 0

    def finish(self) -> None:
        super().finish()
        self._left = None


def _timing(index: int, row: Any, gauged: _Row, events: tuple[Counter, ...]) -> KernelTiming:
    instrument_ns = int(median(after - before for (before,), (after,) in gauged.way))
    samples = (after - before - instrument_ns for (before,), (after,) in gauged.around)
    return KernelTiming(
        index=index,
        call=row["call"],
        layer=row["layer"],
        kind=row["kind"],
        samples_ns=tuple(max(0, sample) for sample in samples),
        instrument_ns=instrument_ns,
        counters=events,
    )


def _events(names: Sequence[str], gauged: _Row) -> tuple[Counter, ...]:
    """Return the events of all repeats, less those of the way; what never ran is left out."""
    found = []
    for i, name in enumerate(names):
        own = counted(name, _moved(gauged.around, i))
        way = counted(name, _moved(gauged.way, i))
        if own and way:
            value = max(0, own.value - way.value)
            runs = len(gauged.around)
            found.append(Counter(name, value, own.enabled_ns, own.running_ns, runs))
    return tuple(found)


def _moved(pairs: Sequence[tuple[Sequence[Reading], Sequence[Reading]]], which: int) -> Reading:
    """Return how far one event's reading moved, over all pairs."""
    steps = [
        [after - before for before, after in zip(a[which], b[which], strict=True)] for a, b in pairs
    ]
    value, enabled_ns, running_ns = (sum(column) for column in zip(*steps, strict=True))
    return value, enabled_ns, running_ns
