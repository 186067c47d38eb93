"""Watches the board while a window lasts: the firmware's driver clears sticky throttle bits."""

from __future__ import annotations

import threading

from device_agent.probes import Probes

# The rpi_volt driver polls every 2 s and clears what it read.
PERIOD_S = 0.5


class Watcher:
    """Every throttle bit and the highest temperature between `start` and `stop`.

    Without a period only these two instants are read: for boards whose time is not the clock's.
    """

    def __init__(self, probes: Probes, period_s: float | None = PERIOD_S) -> None:
        self._probes = probes
        self._period_s = period_s
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.throttle_seen: int | None = None
        self.hottest_c: float | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._look()
        if self._period_s is not None:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Look a last time; stopping twice is once."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._thread:
            self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(self._period_s):
            self._look()

    def _look(self) -> None:
        seen = self._probes.read()
        if seen.throttle_bits is not None:
            self.throttle_seen = (self.throttle_seen or 0) | seen.throttle_bits
        if seen.temperature_c is not None:
            self.hottest_c = max(self.hottest_c or seen.temperature_c, seen.temperature_c)
