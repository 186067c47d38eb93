"""Makes the virtual time of a simulated board pass for real, as the time of a rack does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from device_agent.errors import Cancelled

# Shorter waits cost more than they say: a board would be busy with going to sleep.
SLICE_S = 0.05


class Pace:
    """Keeps real time up with virtual time; `ratio` seconds pass per second of the board, 0 none.

    What the simulation itself takes is part of them. Another thread may end the waiting.
    """

    def __init__(self, ratio: float = 0.0, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._ratio = ratio
        self._clock_s = clock_s
        self._due_s = 0.0
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to count now."""
        self._ended.clear()
        self._due_s = self._clock_s()

    def passed(self, duration_ns: int) -> None:
        """Hear that virtual time passed, and wait once there is enough of it.

        Raises Cancelled when `end` was called meanwhile.
        """
        if self._ratio:
            self._due_s += duration_ns / 1e9 * self._ratio
            self._wait(SLICE_S)

    def settle(self) -> None:
        """Wait for what is left."""
        if self._ratio:
            self._wait(0.0)

    def end(self) -> None:
        """End the waiting."""
        self._ended.set()

    def _wait(self, least_s: float) -> None:
        ahead_s = self._due_s - self._clock_s()
        if ahead_s > least_s and self._ended.wait(ahead_s):
            raise Cancelled("the run was cancelled")
