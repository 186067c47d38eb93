"""Power meters: one module per meter, each with `find` and `attach`; here, what they share.

`find(root, option)` returns what was found of a meter, or None; `attach(found)` makes it a Meter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from protos.values import Energy


@dataclass(frozen=True, slots=True)
class Window:
    """Joules and seconds of one window; `readings` 0: a counter in hardware, which loses none."""

    joules: float
    seconds: float
    readings: int = 0
    lost: int = 0


class Meter(Protocol):
    """Joules between `start` and `stop`.

    `delta_t_s` is how far off each edge of a window may be, `resolution_w` the smallest step.
    """

    name: str
    delta_t_s: float
    resolution_w: float

    def prepare(self) -> tuple[str, ...]:
        """Get ready for a measurement's windows; return what could not be done."""
        ...

    def start(self) -> None:
        """Begin a window."""
        ...

    def stop(self) -> Window:
        """End the window."""
        ...


class EnergyBook:
    """The joules of one measurement: idle, its windows, idle again; without a meter, nothing."""

    def __init__(self, meter: Meter | None, sleep: Callable[[float], None], idle_s: float) -> None:
        self._meter = meter
        self._sleep = sleep
        self._idle_s = idle_s
        self._windows: list[Window] = []
        self._running = False
        self._idle_before_w: float | None = None
        self.inferences = 0

    def open(self) -> tuple[str, ...]:
        """Align the meter and measure idle power; return what could not be done."""
        if self._meter is None:
            return ()
        notes = self._meter.prepare()
        self._idle_before_w = self._idle_w(self._meter)
        return notes

    def open_window(self) -> None:
        """Begin a window."""
        if self._meter:
            self._meter.start()
            self._running = True

    def close_window(self) -> None:
        """End the window; ending twice is once."""
        if self._meter and self._running:
            self._windows.append(self._meter.stop())
            self._running = False

    def close(self) -> Energy | None:
        """Measure idle power once more and return the sum of the windows."""
        if self._meter is None:
            return None
        return Energy(
            active_j=sum(w.joules for w in self._windows),
            active_s=sum(w.seconds for w in self._windows),
            inferences=self.inferences,
            readings=sum(w.readings for w in self._windows),
            meter=self._meter.name,
            idle_w=self._idle_before_w,
            idle_after_w=self._idle_w(self._meter),
            lost=sum(w.lost for w in self._windows),
            windows=len(self._windows),
            delta_t_s=self._meter.delta_t_s,
            resolution_w=self._meter.resolution_w,
        )

    def _idle_w(self, meter: Meter) -> float | None:
        if self._idle_s <= 0:
            return None
        meter.start()
        self._sleep(self._idle_s)
        window = meter.stop()
        return window.joules / window.seconds if window.seconds else None
