"""Virtual time, temperature and throttling of the simulated board; waits for real at its pace."""

from __future__ import annotations

from dataclasses import dataclass, field

from hil_lab.simboard import power
from hil_lab.simboard.pace import Pace
from protos.values import THROTTLED, UNDER_VOLTAGE

RESISTANCE_C_PER_W = 8.0  # guess: a passive heat sink
TIME_CONSTANT_S = 120.0  # guess
AMBIENT_C = 24.0
THROTTLE_FROM_C, THROTTLE_FULL_C = 80.0, 85.0  # fact: progressive between these
THROTTLE_MHZ = 1000.0  # guess: the step it falls to
UNDER_VOLTAGE_MHZ = 600.0  # fact: the lowest step
STICKY_SHIFT = 16


@dataclass
class Physics:
    """The state of the board: its clock, its temperature and what its firmware remembers."""

    nominal_mhz: float
    ambient_c: float = AMBIENT_C
    now_ns: int = 0
    under_voltage: bool = False
    sticky_bits: int = 0
    temperature_c: float = 0.0
    # What nothing but the cycle counter tells: the real clock as a share of the one that is shown.
    hidden_ratio: float = 1.0
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        self.rest()

    def rest(self) -> None:
        """Cool down to idle, as before every measurement; time starts over."""
        self.pace.start()
        self.now_ns = 0
        self.temperature_c = self.ambient_c + power.IDLE_W * RESISTANCE_C_PER_W
        self.sticky_bits = 0

    def advance(self, duration_ns: int, busy_cores: float) -> None:
        """Let time pass with so many cores busy."""
        self.pace.passed(duration_ns)
        self.now_ns += duration_ns
        target = self.ambient_c + power.watts(busy_cores) * RESISTANCE_C_PER_W
        share = min(1.0, duration_ns / 1e9 / TIME_CONSTANT_S)
        self.temperature_c += (target - self.temperature_c) * share
        if self.temperature_c >= THROTTLE_FROM_C or self.under_voltage:
            self.sticky_bits |= self.present_bits() << STICKY_SHIFT

    def sleep(self, seconds: float) -> None:
        """Let idle time pass."""
        self.advance(round(seconds * 1e9), 0.0)

    def clock_s(self) -> float:
        """Return the virtual time."""
        return self.now_ns / 1e9

    def clock_ns(self) -> int:
        """Return the virtual time."""
        return self.now_ns

    def clock_mhz(self) -> float:
        """Return the clock that firmware allows now."""
        if self.under_voltage:
            return UNDER_VOLTAGE_MHZ
        if self.temperature_c < THROTTLE_FROM_C:
            return self.nominal_mhz
        over = (self.temperature_c - THROTTLE_FROM_C) / (THROTTLE_FULL_C - THROTTLE_FROM_C)
        return self.nominal_mhz - min(1.0, over) * (self.nominal_mhz - THROTTLE_MHZ)

    def real_mhz(self) -> float:
        """Return the clock that the cores run at, whatever firmware says."""
        return self.clock_mhz() * self.hidden_ratio

    def present_bits(self) -> int:
        """Return the low throttle bits, as they are now."""
        hot = self.temperature_c >= THROTTLE_FROM_C
        return (UNDER_VOLTAGE if self.under_voltage else 0) | (THROTTLED if hot else 0)
