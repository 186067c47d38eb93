"""Power of the simulated board, and a meter that reads it in virtual time."""

from __future__ import annotations

from collections.abc import Callable

IDLE_W = 2.3  # fact: 2.2 to 2.7 W headless
FULL_W = 6.0  # fact: 5.1 to 6.4 W with four cores busy
CORES = 4
READING_S = 0.002  # fact: an INA226's fastest conversion


def watts(busy_cores: float) -> float:
    """Return the power with so many cores busy."""
    return IDLE_W + (FULL_W - IDLE_W) * min(busy_cores, CORES) / CORES


class SimMeter:
    """A Meter over virtual time; the load of the window is what the runner says."""

    name = "simulated"

    def __init__(self, clock_ns: Callable[[], int], busy_cores: Callable[[], float]) -> None:
        self._clock_ns = clock_ns
        self._busy_cores = busy_cores
        self._start_ns = 0

    def start(self) -> None:
        """Begin a window."""
        self._start_ns = self._clock_ns()

    def stop(self) -> tuple[float, float, int]:
        """End the window: joules, seconds and readings."""
        seconds = (self._clock_ns() - self._start_ns) / 1e9
        joules = watts(self._busy_cores()) * seconds
        return joules, seconds, round(seconds / READING_S)
