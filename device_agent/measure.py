"""One measurement on a machine: gate, tune, blocks with their conditions, energy; never gRPC."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from device_agent.gate import Gate
from device_agent.power import EnergyBook, Meter
from device_agent.probes import Probes
from device_agent.runner import Runner
from device_agent.tuning import untouched
from device_agent.values import Identity, Job
from device_agent.watch import PERIOD_S, Watcher
from protos.values import Block, Conditions, Energy, TimingPlan

ANCHOR_S, ANCHOR_CAP_S = 1.0, 3.0  # the anchor's blocks are short: they tell of the board alone
ANCHOR_RUNS = 30


def _unknown() -> float | None:
    return None


def _ignored(task: Task) -> None:
    return None


@dataclass(frozen=True)
class Machine:
    """Everything under the agent's server: what a simulated board replaces.

    `nominal_mhz` is what a tuned board runs at, None where that is nobody's promise.
    """

    identity: Identity
    runner: Runner
    probes: Probes
    meter: Meter | None = None
    tuned: Callable[[], AbstractContextManager[tuple[str, ...]]] = untouched
    sleep: Callable[[float], None] = time.sleep
    clock_s: Callable[[], float] = time.monotonic
    also_runs: frozenset[str] = frozenset()  # machines beside its own whose artifacts it takes
    nominal_mhz: float | None = None
    effective_mhz: Callable[[], float | None] = _unknown
    watch_s: float | None = PERIOD_S
    # Is told of a measurement before anything of it is asked: a recording looks it up.
    announced: Callable[[Task], None] = _ignored

    def conditions(self) -> Conditions:
        """Return the conditions now, the effective clock included; takes a moment of busy work."""
        return replace(
            self.probes.read(), effective_mhz=self.effective_mhz(), nominal_mhz=self.nominal_mhz
        )


@dataclass(frozen=True, slots=True)
class Task:
    """What to measure and how; `anchor` runs before every block and after the last."""

    job: Job
    plan: TimingPlan
    anchor: Job | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what; `held` says whether the caller's lease still lives."""

    on_phase: Callable[[str, int], None]
    on_block: Callable[[Block], None]
    on_anchor: Callable[[Block], None] = lambda _: None
    held: Callable[[], bool] = lambda: True

    def numbered(self, number: int) -> Callable[[str], None]:
        """Return what is told the phases of one block."""
        return lambda phase: self.on_phase(phase, number)


def measure(machine: Machine, task: Task, listener: Listener) -> Energy | None:
    """Take the plan's blocks; each is handed over as soon as it is complete."""
    machine.announced(task)
    book = EnergyBook(machine.meter, machine.sleep, task.plan.idle_s)
    gate = Gate(machine.conditions, task.plan, machine.sleep, machine.clock_s, held=listener.held)
    with machine.tuned() as notes:
        notes = (*notes, *book.open())
        for number in range(task.plan.blocks):
            _anchor(machine, task, listener, number)
            listener.on_phase("gate", number)
            gated = gate.wait()
            block = _block(machine, task, listener.numbered(number), book)
            listener.on_block(replace(block, notes=(*notes, *gated, *block.notes)))
        _anchor(machine, task, listener, task.plan.blocks)
        return book.close()


def anchor_plan(plan: TimingPlan) -> TimingPlan:
    """Return how the anchor is timed between a plan's blocks: briefly."""
    return replace(
        plan,
        runs=min(plan.runs, ANCHOR_RUNS),
        seconds=min(plan.seconds, ANCHOR_S),
        cap_s=min(plan.cap_s, ANCHOR_CAP_S),
        blocks=1,
    )


def _anchor(machine: Machine, task: Task, listener: Listener, number: int) -> None:
    if task.anchor is None:
        return
    listener.on_phase("anchor", number)
    alone = Task(task.anchor, anchor_plan(task.plan))
    listener.on_anchor(_block(machine, alone, lambda _: None, None))


def _block(
    machine: Machine, task: Task, on_phase: Callable[[str], None], book: EnergyBook | None
) -> Block:
    """Take one block; its end is when the sampling ended, not when the process did.

    A runner that knows the conditions of its block, as a recording does, says them itself.
    """
    window = _Window(machine, on_phase, book)
    start = machine.conditions()
    try:
        block = machine.runner.block(task.job, task.plan, window.phase_changed)
    finally:
        window.close()
    if book:
        book.inferences += len(block.samples_ns)
    if block.start is not None:
        return block
    return replace(
        block,
        start=start,
        end=window.end or machine.conditions(),
        throttle_seen=window.watcher.throttle_seen,
        hottest_c=window.watcher.hottest_c,
    )


class _Window:
    """What goes on beside the program while it samples: the watch and the meter."""

    def __init__(
        self, machine: Machine, on_phase: Callable[[str], None], book: EnergyBook | None
    ) -> None:
        self._machine = machine
        self._on_phase = on_phase
        self._book = book
        self.watcher = Watcher(machine.probes, machine.watch_s)
        self.end: Conditions | None = None

    def phase_changed(self, phase: str) -> None:
        """Open and close with the sampling, and pass the phase on."""
        if phase == "sample":
            self.watcher.start()
            if self._book:
                self._book.open_window()
        elif phase == "sampled":
            self.close()
            self.end = self._machine.conditions()
        self._on_phase(phase)

    def close(self) -> None:
        """Stop the meter and the watch; twice is once."""
        if self._book:
            self._book.close_window()
        self.watcher.stop()
