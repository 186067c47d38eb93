"""What a board does for a meter to see, so that their clocks can be compared: a chirp, or edges."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from device_agent.power.align import PULSE_S, PULSES, Offset, chirp_offset, edge_offset
from device_agent.power.readings import Readings

QUIET_S = 0.5  # before and after
# A meter of 100 kS/s sees it, and so does one that misses every other poll.
EDGE_S = 0.02
ClockS = Callable[[], float]
Sleep = Callable[[float], None]


class Signal(Protocol):
    """A way to compare clocks."""

    @property
    def name(self) -> str:
        """What a meter may not have seen."""
        ...

    def offset(self, drain: Callable[[], Readings]) -> Offset | None:
        """Give the signal and return the offset, None where the meter did not see it.

        Raises OSError where it cannot be given.
        """
        ...


def busy(seconds: float, clock_s: ClockS = time.monotonic) -> None:
    """Load a core."""
    end_s = clock_s() + seconds
    while clock_s() < end_s:
        sum(range(10_000))


@dataclass(frozen=True)
class Chirp:
    """Load in four pulses, which the meter's own readings show."""

    load: Callable[[float], None] = busy
    sleep: Sleep = time.sleep
    clock_s: ClockS = time.monotonic
    name: str = "the chirp was"

    def offset(self, drain: Callable[[], Readings]) -> Offset | None:
        """Give the pulses and find where the readings follow them best."""
        drain()
        pulses = []
        self.sleep(QUIET_S)
        for _ in range(PULSES):
            begin_s = self.clock_s()
            self.load(PULSE_S)
            pulses.append((begin_s, self.clock_s()))
            self.sleep(PULSE_S)
        self.sleep(QUIET_S)
        return chirp_offset(drain(), pulses)


class Level(Protocol):
    """A line that is driven."""

    def set(self, *, high: bool) -> None:
        """Set the level."""
        ...


@dataclass(frozen=True)
class Edges:
    """Edges of a line that is wired to the meter; `seen` hands over when the meter saw some.

    `sample_s` is how far apart the meter looks at its input.
    """

    output: Callable[[], AbstractContextManager[Level]]
    seen: Callable[[], list[float]]
    sample_s: float
    sleep: Sleep = time.sleep
    clock_s: ClockS = time.monotonic
    name: str = "edges of the line were"

    def offset(self, drain: Callable[[], Readings]) -> Offset | None:
        """Give four pulses, eight edges, and compare both clocks at each."""
        given: list[float] = []
        with self.output() as line:
            self.sleep(QUIET_S)
            self.seen()
            for high in (True, False) * PULSES:
                before_s = self.clock_s()
                line.set(high=high)
                given.append((before_s + self.clock_s()) / 2)
                self.sleep(EDGE_S)
            self.sleep(QUIET_S)
        drain()
        return edge_offset(given, self.seen(), self.sample_s)
