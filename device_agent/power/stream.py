"""Meters with a clock of their own: readings, aligned to the board's time by a signal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from device_agent.power import Window
from device_agent.power.readings import window
from device_agent.power.signals import Chirp, Signal

UNALIGNED_S = 1.0  # how far off a window may be whose meter was not aligned
_JOIN_S = 2.0

Reading = tuple[float, float]


class Source(Protocol):
    """A meter that delivers readings (its own seconds, watts) as they come."""

    def read(self) -> list[Reading]:
        """Return what came since the last call; may wait for it a moment."""
        ...


class Pump:
    """Reads a source in a thread, since their buffers are small; `drain` hands over what came."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._came: list[Reading] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def drain(self) -> list[Reading]:
        """Return the readings since the last call."""
        with self._lock:
            came, self._came = self._came, []
        return came

    def close(self) -> None:
        """Stop reading."""
        self._ended.set()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while not self._ended.is_set():
            readings = self._source.read()
            with self._lock:
                self._came += readings


class StreamMeter:
    """A Meter over a stream; a signal before every measurement finds the clocks' offset."""

    def __init__(
        self,
        name: str,
        drain: Callable[[], list[Reading]],
        *,
        resolution_w: float = 0.0,
        signal: Signal | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.delta_t_s = UNALIGNED_S
        self.resolution_w = resolution_w
        self.offset_s = 0.0
        self._drain = drain
        self._signal = signal or Chirp()
        self._sleep = sleep
        self._clock_s = clock_s
        self._start_s = 0.0

    def prepare(self) -> tuple[str, ...]:
        """Give the signal and find the offset; say where it could not be found."""
        try:
            found, why = self._signal.offset(self._drain), "not seen"
        except OSError as e:
            found, why = None, f"not given ({e.strerror})"
        if found is None:
            self.offset_s, self.delta_t_s = 0.0, UNALIGNED_S
            return (f"meter {self.name}: {self._signal.name} {why}, its clock is not aligned",)
        self.offset_s, self.delta_t_s = found.seconds, found.bound_s
        return ()

    def start(self) -> None:
        """Begin a window."""
        self._drain()
        self._start_s = self._clock_s()

    def stop(self) -> Window:
        """End the window, once the readings of its end have come."""
        stop_s = self._clock_s()
        self._sleep(max(0.0, self.offset_s) + self.delta_t_s)
        start_s = self._start_s
        return window(self._drain(), start_s + self.offset_s, stop_s + self.offset_s)
