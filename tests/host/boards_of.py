"""Fake boards under the real agent that tell how long a run takes, for meters over several."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from device_agent.runner import OnPhase
from device_agent.values import Job
from hil_lab.inventory import served
from host.boards.protocol import QUICK
from host.meter import Meter
from host.store import Store
from protos.values import Block, TimingPlan
from tests.contracts.support import FakeRunner, fake_machine


@dataclass
class SteadyRunner(FakeRunner):
    """Every run takes the same time; `together` is passed when all its parties measure."""

    ms: float = 1.0
    together: threading.Barrier | None = None
    seen: list[str] = field(default_factory=list)

    def block(self, job: Job, plan: TimingPlan, on_phase: OnPhase) -> Block:
        self._enter()
        if self.together:
            self.together.wait(20)
        self.seen.append(job.manifest["structure"])
        return Block((round(self.ms * 1e6),) * plan.runs, 10, True)


@contextmanager
def meters_of(runners: Mapping[str, SteadyRunner], store: Store) -> Iterator[Sequence[Meter]]:
    """Yield a meter per board, all leased; their fingerprints are the same."""
    with ExitStack() as stack:
        found = []
        for name, runner in runners.items():
            machine = fake_machine(runner)
            machine = replace(machine, identity=replace(machine.identity, name=name))
            client = stack.enter_context(served(machine))
            session = stack.enter_context(client.lease("me"))
            found.append(Meter(None, session, store, QUICK))  # type: ignore[arg-type]
        yield found
