"""One measurement on a machine: gate, tune, blocks with their conditions, energy; never gRPC."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial

from device_agent.power import Meter
from device_agent.probes import Probes
from device_agent.runner import Runner
from device_agent.tuning import untouched
from device_agent.values import Identity, Job
from protos.values import Block, Conditions, Energy, TimingPlan

GATE_PERIOD_S = 1.0
_THROTTLE_NOW = 0xF  # the sticky bits above say "has occurred"

OnPhase = Callable[[str, int], None]
OnBlock = Callable[[Block], None]


@dataclass(frozen=True)
class Machine:
    """Everything under the agent's server: what a simulated board replaces."""

    identity: Identity
    runner: Runner
    probes: Probes
    meter: Meter | None = None
    tuned: Callable[[], AbstractContextManager[tuple[str, ...]]] = untouched
    sleep: Callable[[float], None] = time.sleep
    clock_s: Callable[[], float] = time.monotonic
    also_runs: frozenset[str] = frozenset()  # machines beside its own whose artifacts it takes


@dataclass
class _Window:
    """Joules and seconds of the sampling windows so far."""

    joules: float = 0.0
    seconds: float = 0.0
    readings: int = 0
    inferences: int = 0
    idle_w: float | None = None
    open: bool = field(default=False)


def measure(
    machine: Machine, job: Job, plan: TimingPlan, on_phase: OnPhase, on_block: OnBlock
) -> Energy | None:
    """Take the plan's blocks; each is handed over as soon as it is complete."""
    window = _Window()
    with machine.tuned() as notes:
        window.idle_w = _idle_w(machine, plan)
        for number in range(plan.blocks):
            on_phase("gate", number)
            gated = gate(machine, plan)
            block = _block(machine, job, plan, window, partial(_numbered, on_phase, number))
            on_block(replace(block, notes=(*notes, *gated, *block.notes)))
    if machine.meter is None:
        return None
    return Energy(
        window.joules,
        window.seconds,
        window.inferences,
        window.readings,
        machine.meter.name,
        window.idle_w,
    )


def gate(machine: Machine, plan: TimingPlan) -> tuple[str, ...]:
    """Wait for good conditions; return what was still wrong when the wait was over."""
    deadline = machine.clock_s() + plan.gate_wait_s
    while why := unfit(machine.probes.read(), plan):
        if machine.clock_s() >= deadline:
            return (f"gate: {why}",)
        machine.sleep(GATE_PERIOD_S)
    return ()


def unfit(conditions: Conditions, plan: TimingPlan) -> str:
    """Say why no window should start now, or return ''."""
    if bits := (conditions.throttle_bits or 0) & _THROTTLE_NOW:
        return f"throttled (bits {bits:#x})"
    temperature = conditions.temperature_c
    if temperature is not None and temperature >= plan.gate_temperature_c:
        return f"{temperature:.1f} C, the plan starts below {plan.gate_temperature_c:g}"
    return ""


def _numbered(on_phase: OnPhase, number: int, phase: str) -> None:
    on_phase(phase, number)


def _block(
    machine: Machine, job: Job, plan: TimingPlan, window: _Window, on_phase: Callable[[str], None]
) -> Block:
    def phase_changed(phase: str) -> None:
        if phase == "sample":
            _open(machine.meter, window)
        elif phase == "sampled":
            _close(machine.meter, window)
        on_phase(phase)

    start = machine.probes.read()
    try:
        block = machine.runner.block(job, plan, phase_changed)
    finally:
        _close(machine.meter, window)
    window.inferences += len(block.samples_ns)
    return replace(block, start=start, end=machine.probes.read())


def _open(meter: Meter | None, window: _Window) -> None:
    if meter:
        meter.start()
        window.open = True


def _close(meter: Meter | None, window: _Window) -> None:
    if meter and window.open:
        joules, seconds, readings = meter.stop()
        window.joules += joules
        window.seconds += seconds
        window.readings += readings
        window.open = False


def _idle_w(machine: Machine, plan: TimingPlan) -> float | None:
    if machine.meter is None or plan.idle_s <= 0:
        return None
    machine.meter.start()
    machine.sleep(plan.idle_s)
    joules, seconds, _ = machine.meter.stop()
    return joules / seconds if seconds else None
