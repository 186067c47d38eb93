"""Meters on the board's own clock: power sampled in a thread, or a counter of energy read twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from device_agent.power import Window
from device_agent.power.readings import window

PERIOD_S = 0.005


class SampledMeter:
    """Reads power every period in a thread; a reading that fails is lost, not zero."""

    def __init__(
        self,
        name: str,
        read_w: Callable[[], float],
        *,
        period_s: float = PERIOD_S,
        resolution_w: float = 0.0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.delta_t_s = period_s
        self.resolution_w = resolution_w
        self._read_w = read_w
        self._period_s = period_s
        self._clock_s = clock_s
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._readings: list[tuple[float, float]] = []
        self._start_s = 0.0

    def prepare(self) -> tuple[str, ...]:
        """Nothing to align: the readings carry the board's time."""
        return ()

    def start(self) -> None:
        """Begin a window."""
        self._ended.clear()
        self._start_s = self._clock_s()
        self._readings = []
        self._read()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> Window:
        """End the window."""
        self._ended.set()
        if self._thread:
            self._thread.join()
        self._read()
        return window(self._readings, self._start_s, self._clock_s())

    def _sample(self) -> None:
        while not self._ended.wait(self._period_s):
            self._read()

    def _read(self) -> None:
        try:
            watts = self._read_w()
        except (OSError, ValueError):
            return  # shows as a gap
        self._readings.append((self._clock_s(), watts))


class CounterMeter:
    """A counter of joules in the meter's hardware: nothing can be lost between two reads of it."""

    def __init__(
        self,
        name: str,
        read_j: Callable[[], float],
        *,
        delta_t_s: float,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.delta_t_s = delta_t_s
        self.resolution_w = 0.0
        self._read_j = read_j
        self._clock_s = clock_s
        self._start: tuple[float, float | None] = (0.0, None)

    def prepare(self) -> tuple[str, ...]:
        """Nothing to align."""
        return ()

    def start(self) -> None:
        """Begin a window."""
        self._start = self._clock_s(), self._counted_j()

    def stop(self) -> Window:
        """End the window; a counter that ran over or is gone gives no joules, not wrong ones."""
        end_s, end_j = self._clock_s(), self._counted_j()
        start_s, start_j = self._start
        if start_j is None or end_j is None:
            return Window(0.0, end_s - start_s)
        return Window(max(0.0, end_j - start_j), end_s - start_s)

    def _counted_j(self) -> float | None:
        try:
            return self._read_j()
        except (OSError, ValueError):
            return None
