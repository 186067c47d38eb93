"""Runs jobs in child processes with deadline, memory limit and cancel; never in this one."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np

from device_agent.child import Child
from device_agent.cores import Cores
from device_agent.counters import DEFAULT_COUNTERS
from device_agent.errors import Crashed, Rejected
from device_agent.frames import Frame
from device_agent.runner import OnPhase
from device_agent.values import Job
from protos.convert import from_json
from protos.values import Block, Profile, TimingPlan, VerifyReport

WORKER = (sys.executable, "-m", "device_agent.worker")
# The runtime would bind its threads to the first cores.
PINNED = {"TVM_BIND_THREADS": "0"}
T = TypeVar("T")


class ProcessRunner:
    """A Runner whose every job is a fresh `command` that speaks worker.py's frames.

    Without `namespaces`, or a root of `own_files` (the command is an emulator), a program is
    confined less; with `require_sandbox` one that cannot be confined in full is refused. With
    `cores` programs are pinned.
    """

    def __init__(
        self,
        command: Sequence[str] = WORKER,
        counters: Sequence[str] | None = None,
        *,
        namespaces: bool = True,
        own_files: bool = True,
        require_sandbox: bool = False,
        cores: Cores | None = None,
    ) -> None:
        self._command = command
        self._cores = cores
        if counters is None:
            counters = DEFAULT_COUNTERS.get(platform.machine(), ())
        self._counters = tuple(counters)
        self._sandbox = {
            "namespaces": namespaces,
            "own_files": own_files,
            "required": require_sandbox,
        }
        self._child: Child | None = None

    def block(self, job: Job, plan: TimingPlan, on_phase: OnPhase) -> Block:
        """Take one block of samples in a fresh process."""
        with self._started(job, "block", plan=asdict(plan), counters=self._counters) as child:
            while (frame := child.receive()).kind == "phase":
                on_phase(str(frame.header.get("phase")))
        return _result(Block, frame)

    def verify(self, job: Job) -> VerifyReport:
        """Run the golden input freely and forced."""
        with self._started(job, "verify") as child:
            return _result(VerifyReport, child.receive())

    def profile(self, job: Job, repeats: int) -> Profile:
        """Time every row of the kernel table."""
        header = {"repeats": repeats, "counters": self._counters}
        with self._started(job, "profile", **header) as child:
            return _result(Profile, child.receive())

    def infer(self, job: Job, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Run batches and yield outputs."""
        with self._started(job, "infer") as child:
            for batch in batches:
                child.send({"kind": "batch"}, [batch])
                yield _output(child.receive())
            child.send({"kind": "end"})
            child.receive()

    def cancel(self) -> None:
        """End what runs now."""
        if child := self._child:
            child.cancel()

    @contextmanager
    def _started(self, job: Job, kind: str, **more: object) -> Iterator[Child]:
        cores = self._cores.program(_threads(job)) if self._cores else ()
        child = Child(self._command, job, PINNED if cores else {})
        self._child = child
        try:
            header: dict[str, object] = {"kind": kind, "manifest": job.manifest}
            header["blobs"] = str(job.blobs)
            sandbox = {**self._sandbox, "memory_bytes": job.limits.memory_bytes}
            header |= {"synthetic": job.synthetic, "sandbox": sandbox, "cores": cores}
            child.send({**header, **more})
            yield child
        finally:
            self._child = None
            child.end()


def _threads(job: Job) -> int:
    """Return how many threads a program says that it has; a manifest is anybody's word."""
    said = job.manifest.get("threads")
    return said if isinstance(said, int) and said > 0 else 1


def _result(kind: type[T], frame: Frame) -> T:
    values: dict[str, Any] = dict(frame.header)
    if values.pop("kind") != "done":
        raise Rejected(f"the worker answered {frame.kind!r}: agent and worker are of two versions")
    try:
        return from_json(kind, values)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as e:
        raise Crashed(f"the program spoiled its worker's answer ({e})") from e


def _output(frame: Frame) -> np.ndarray:
    if len(frame.arrays) != 1:
        raise Crashed("the program spoiled its worker's answer")
    return frame.arrays[0]
