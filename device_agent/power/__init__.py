"""Power meters: one module per meter, each with `find` and `read_w`; here, energy from readings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol


class Meter(Protocol):
    """Joules between `start` and `stop`."""

    name: str

    def start(self) -> None:
        """Begin a window."""
        ...

    def stop(self) -> tuple[float, float, int]:
        """End the window: joules, seconds and the number of readings behind them."""
        ...


class SampledMeter:
    """Integrates power readings (trapezoids) in a thread."""

    def __init__(
        self,
        name: str,
        read_w: Callable[[], float],
        period_s: float = 0.01,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._read_w = read_w
        self._period_s = period_s
        self._clock_s = clock_s
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._readings: list[tuple[float, float]] = []

    def start(self) -> None:
        """Begin a window."""
        self._ended.clear()
        self._readings = [(self._clock_s(), self._read_w())]
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> tuple[float, float, int]:
        """End the window: joules, seconds and readings."""
        self._ended.set()
        if self._thread:
            self._thread.join()
        self._readings.append((self._clock_s(), self._read_w()))
        return energy(self._readings)

    def _sample(self) -> None:
        while not self._ended.wait(self._period_s):
            self._readings.append((self._clock_s(), self._read_w()))


def energy(readings: list[tuple[float, float]]) -> tuple[float, float, int]:
    """Integrate (seconds, watts) readings: joules, seconds, number of readings."""
    joules = sum((t1 - t0) * (w0 + w1) / 2 for (t0, w0), (t1, w1) in pairwise(readings))
    return joules, readings[-1][0] - readings[0][0], len(readings)
