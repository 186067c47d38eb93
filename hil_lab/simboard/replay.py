"""A board that answers from a recording, under the real agent server; it runs and invents nothing.

What a real board (or a simulated one) measured, computed and failed at comes back in its order:
the same program asked again gets the next recorded answer, and after the last the first.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from device_agent.errors import AgentError, Rejected
from device_agent.measure import Machine, Task
from device_agent.power import Window
from device_agent.runner import OnPhase
from device_agent.values import Identity, Job
from hil_lab.simboard.recording import Recording, in_order, windows_of
from hil_lab.simboard.thermal import Physics
from host.boards.tape import Failure, Line, failure_of
from host.canonical import digest
from protos.convert import from_json
from protos.values import Block, Conditions, Energy, Profile, TimingPlan, VerifyReport

NOMINAL_MHZ = 1800.0  # of the physics that lends its clock; no number comes of it


class FailedThen(AgentError):
    """A failure that was recorded: the same status code and reason again."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.message} (as recorded, after {failure.after_s:g} s)")
        self.code, self.reason = failure.code, failure.reason


def replay_machine(name: str, recording: Recording) -> Machine:
    """Return the machine of a recording; its fingerprint is its own, so that no number mixes."""
    runner = ReplayRunner(recording)
    physics = Physics(NOMINAL_MHZ)  # virtual time: nobody waits for a gate that was passed long ago
    return Machine(
        identity=_identity(name, recording),
        runner=runner,
        probes=ReplayProbes(recording, physics.clock_ns),
        meter=ReplayMeter(runner) if recording.meters else None,
        tuned=runner.measuring,
        sleep=physics.sleep,
        clock_s=physics.clock_s,
        watch_s=None,
        also_runs=recording.archs,
        announced=runner.announced,
    )


def _identity(name: str, recording: Recording) -> Identity:
    was = recording.identity
    tape = digest([dict(line) for line in recording.lines])[:16]
    fingerprint = {**was["fingerprint"], "replay": f"{was['name']} {tape}"}
    return Identity(name, was["kind"], was["arch"], fingerprint, tuple(was["capabilities"]))


class ReplayProbes:
    """The recorded telemetry, reading after reading; without any, what no gate objects to."""

    def __init__(self, recording: Recording, clock_ns: Callable[[], int]) -> None:
        self._recording = recording
        self._clock_ns = clock_ns

    def read(self) -> Conditions:
        """Return conditions; those of blocks come with the blocks."""
        return self._recording.telemetry() or Conditions(self._clock_ns())


class ReplayRunner:
    """A Runner whose every answer was given before."""

    def __init__(self, recording: Recording) -> None:
        self.recording = self._recording = recording
        self._blocks: Iterator[Block] = iter(())
        self._failure: Failure | None = None
        self.energy: Energy | None = None
        self.windows: list[Window] = []

    def announced(self, task: Task) -> None:
        """Look up the next recorded measurement of a program under a plan."""
        line = self._recording.next(
            "measure",
            structure=task.job.manifest["structure"],
            anchor=task.anchor.manifest["structure"] if task.anchor else "",
            plan=_fields(task.plan),
        )
        self._failure = failure_of(line)
        self._blocks = iter(in_order(line, anchored=task.anchor is not None))
        self.energy = from_json(Energy, line["energy"]) if line["energy"] else None
        self.windows = list(windows_of(self.energy, task.plan))

    @contextmanager
    def measuring(self) -> Iterator[tuple[str, ...]]:
        """End as the recorded measurement ended, if it failed after its last block."""
        yield ()
        if self._failure:
            raise FailedThen(self._failure)

    def block(self, job: Job, plan: TimingPlan, on_phase: OnPhase) -> Block:
        """Return the next recorded block, or fail where it failed."""
        for phase in ("warmup", "sample", "sampled"):
            on_phase(phase)
        block = next(self._blocks, None)
        if block is not None:
            return block
        if self._failure:
            raise FailedThen(self._failure)
        raise Rejected(f"the recording {self._recording.path} ends in a measurement")

    def verify(self, job: Job) -> VerifyReport:
        """Return what the golden input showed."""
        line = self._answer("verify", artifact=_digest(job))
        return from_json(VerifyReport, line["report"])

    def profile(self, job: Job, repeats: int) -> Profile:
        """Return the recorded times of every kernel."""
        structure = job.manifest["structure"]
        return from_json(
            Profile, self._answer("profile", structure=structure, repeats=repeats)["profile"]
        )

    def infer(self, job: Job, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield what came out when the very same samples went in."""
        inputs = hashlib.sha256()
        for batch in batches:
            inputs.update(batch.tobytes())
        line = self._answer("infer", artifact=_digest(job), inputs=inputs.hexdigest())
        for tensor in line["tensors"]:
            data = base64.b64decode(tensor["data"])
            yield np.frombuffer(data, tensor["dtype"]).reshape(tensor["shape"])

    def cancel(self) -> None:
        """Nothing runs."""

    def _answer(self, what: str, **asked: Any) -> Line:
        line = self._recording.next(what, **asked)
        if failure := failure_of(line):
            raise FailedThen(failure)
        return line


class ReplayMeter:
    """A Meter whose windows add up to the recorded joules."""

    def __init__(self, runner: ReplayRunner) -> None:
        self._runner = runner
        self.name, self.delta_t_s, self.resolution_w = "replay", 0.0, 0.0

    def prepare(self) -> tuple[str, ...]:
        """Become the meter of the recorded measurement; its notes stand in the blocks."""
        if energy := self._runner.energy:
            self.name, self.delta_t_s = energy.meter, energy.delta_t_s
            self.resolution_w = energy.resolution_w
        return ()

    def start(self) -> None:
        """Begin a window."""

    def stop(self) -> Window:
        """Return the next recorded window."""
        windows = self._runner.windows
        return windows.pop(0) if windows else Window(0.0, 0.0)


def _digest(job: Job) -> str:
    return digest(dict(job.manifest))


def _fields(plan: TimingPlan) -> Mapping[str, Any]:
    return {name: getattr(plan, name) for name in plan.__dataclass_fields__}
