"""Power of the simulated board, and a meter that reads it in virtual time."""

from __future__ import annotations

from collections.abc import Callable

from device_agent.power import Window

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
    delta_t_s = READING_S
    resolution_w = 0.0

    def __init__(
        self,
        clock_ns: Callable[[], int],
        busy_cores: Callable[[], float],
        lost_share: float = 0.0,
    ) -> None:
        self._clock_ns = clock_ns
        self._busy_cores = busy_cores
        self._lost_share = lost_share
        self._start_ns = 0

    def prepare(self) -> tuple[str, ...]:
        """Nothing to align: the meter reads virtual time."""
        return ()

    def start(self) -> None:
        """Begin a window."""
        self._start_ns = self._clock_ns()

    def stop(self) -> Window:
        """End the window."""
        seconds = (self._clock_ns() - self._start_ns) / 1e9
        joules = watts(self._busy_cores()) * seconds
        due = round(seconds / READING_S)
        lost = round(due * self._lost_share)
        return Window(joules, seconds, due - lost, lost)
