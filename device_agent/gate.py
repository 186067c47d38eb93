"""The gate before a window: waits for good conditions, or says which one failed; never measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from device_agent.errors import NotYourLease
from protos.values import Conditions, TimingPlan
from protos.verdict import wrong_clock

GATE_PERIOD_S = 1.0
_THROTTLE_NOW = 0xF  # the sticky bits above say "has occurred"


@dataclass
class Gate:
    """Lets the windows of one measurement begin; the first one sets the set point of the others.

    `held` says whether the lease still lives: nobody waits for a board that is another's.
    """

    read: Callable[[], Conditions]
    plan: TimingPlan
    sleep: Callable[[float], None]
    clock_s: Callable[[], float]
    held: Callable[[], bool]
    set_point_c: float | None = None

    def wait(self) -> tuple[str, ...]:
        """Wait for good conditions; return what was still wrong when the wait was over.

        Raises NotYourLease where the lease ended meanwhile.
        """
        deadline = self.clock_s() + self.plan.gate_wait_s
        while True:
            conditions = self.read()
            why = unfit(conditions, self.plan, self.set_point_c)
            if not self.held():
                raise NotYourLease("the lease ended while the board waited for good conditions")
            if not why or self.clock_s() >= deadline:
                break
            self.sleep(GATE_PERIOD_S)
        if self.set_point_c is None:
            self.set_point_c = self.plan.set_point_c or conditions.temperature_c
        return (f"gate: {why}",) if why else ()


def unfit(conditions: Conditions, plan: TimingPlan, set_point_c: float | None = None) -> str:
    """Say why no window should start now, or return ''."""
    if bits := (conditions.throttle_bits or 0) & _THROTTLE_NOW:
        return f"throttled (bits {bits:#x})"
    temperature = conditions.temperature_c
    if temperature is not None and temperature >= plan.gate_temperature_c:
        return f"{temperature:.1f} C, the plan starts below {plan.gate_temperature_c:g}"
    wanted = plan.set_point_c or set_point_c
    if plan.gate_band_c and temperature is not None and wanted is not None:
        apart_c = temperature - wanted
        if abs(apart_c) > plan.gate_band_c:
            return f"{temperature:.1f} C is {apart_c:+.1f} C off the set point"
    return wrong_clock(conditions, plan.clock_ratio)
