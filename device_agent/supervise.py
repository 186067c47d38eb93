"""Runs jobs in child processes with deadline, memory limit and cancel; never in this one."""

from __future__ import annotations

import os
import platform
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil

from device_agent.counters import CORTEX_A72, GENERIC
from device_agent.errors import RUN_FAILURES, Cancelled, Crashed, Hung, OutOfMemory, Rejected
from device_agent.frames import Frame, read_frame, write_frame
from device_agent.runner import OnPhase
from device_agent.values import Job
from protos.convert import from_json
from protos.values import Block, Profile, TimingPlan, VerifyReport

POLL_S = 0.02
STDERR_TAIL_BYTES = 400
WORKER = (sys.executable, "-m", "device_agent.worker")
# The first pass of boards.md section 3; on other machines what they have.
DEFAULT_COUNTERS = {
    "aarch64": ("instructions", *(n for n in CORTEX_A72 if n.startswith(("l1d", "l2d", "bus")))),
    "x86_64": tuple(GENERIC),
}


class ProcessRunner:
    """A Runner whose every job is a fresh `command` that speaks worker.py's frames."""

    def __init__(
        self, command: Sequence[str] = WORKER, counters: Sequence[str] | None = None
    ) -> None:
        self._command = command
        if counters is None:
            counters = DEFAULT_COUNTERS.get(platform.machine(), ())
        self._counters = tuple(counters)
        self._child: _Child | None = None

    def block(self, job: Job, plan: TimingPlan, on_phase: OnPhase) -> Block:
        """Take one block of samples in a fresh process."""
        with self._started(job, "block", plan=asdict(plan), counters=self._counters) as child:
            while (frame := child.receive()).kind == "phase":
                on_phase(frame.header["phase"])
        return from_json(Block, _result(frame))

    def verify(self, job: Job) -> VerifyReport:
        """Run the golden input freely and forced."""
        with self._started(job, "verify") as child:
            return from_json(VerifyReport, _result(child.receive()))

    def profile(self, job: Job, repeats: int) -> Profile:
        """Time every row of the kernel table."""
        header = {"repeats": repeats, "counters": self._counters}
        with self._started(job, "profile", **header) as child:
            return from_json(Profile, _result(child.receive()))

    def infer(self, job: Job, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Run batches and yield outputs."""
        with self._started(job, "infer") as child:
            for batch in batches:
                child.send({"kind": "batch"}, [batch])
                yield child.receive().arrays[0]
            child.send({"kind": "end"})
            child.receive()

    def cancel(self) -> None:
        """End what runs now."""
        if child := self._child:
            child.cancel()

    @contextmanager
    def _started(self, job: Job, kind: str, **more: object) -> Iterator[_Child]:
        child = _Child(self._command, job)
        self._child = child
        try:
            header = {"kind": kind, "manifest": job.manifest, "blobs": str(job.blobs)}
            child.send({**header, "synthetic": job.synthetic, **more})
            yield child
        finally:
            self._child = None
            child.end()


class _Child:
    """One worker process; `receive` waits for a frame until a limit is passed."""

    def __init__(self, command: Sequence[str], job: Job) -> None:
        self._limits = job.limits
        self._why: Cancelled | Hung | OutOfMemory | None = None
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(job.manifest),
        )
        self._frames: queue.Queue[Frame | None] = queue.Queue()
        self._stderr = b""
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._stdin = self._process.stdin
        self._readers = (
            threading.Thread(target=self._read_frames, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True),
        )
        for reader in self._readers:
            reader.start()

    def send(self, header: Mapping[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
        """Send a frame; a child that is gone shows at the next `receive`."""
        try:
            write_frame(self._stdin, header, arrays)
        except BrokenPipeError:
            self._process.wait()

    def receive(self) -> Frame:
        """Return the next frame; raises what ended the child, or the error that it reported."""
        deadline = time.monotonic() + self._limits.deadline_s
        while True:
            try:
                frame = self._frames.get(timeout=POLL_S)
            except queue.Empty:
                self._check_limits(deadline)
                continue
            if frame is None:
                raise self._post_mortem()
            if frame.kind == "error":
                raise RUN_FAILURES.get(frame.header["reason"], Crashed)(frame.header["message"])
            return frame

    def cancel(self) -> None:
        """Kill the child; its next `receive` raises Cancelled."""
        self._kill(Cancelled("the run was cancelled"))

    def end(self) -> None:
        """Make sure that the child is gone and nothing of it is left open."""
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self._stdin, self._process.stdout, self._process.stderr):
            _close(stream)

    def _check_limits(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            self._kill(Hung(f"no answer in {self._limits.deadline_s:g} s: the program hangs"))
        resident = _resident_bytes(self._process.pid)
        if resident > self._limits.memory_bytes:
            limit = self._limits.memory_bytes >> 20
            self._kill(OutOfMemory(f"the program took {resident >> 20} MiB, the limit is {limit}"))

    def _kill(self, why: Cancelled | Hung | OutOfMemory) -> None:
        self._why = self._why or why
        self._process.kill()

    def _post_mortem(self) -> Cancelled | Hung | OutOfMemory | Crashed:
        status = self._process.wait()
        self._readers[1].join()
        if self._why:
            return self._why
        if status == -signal.SIGKILL:
            return OutOfMemory("the system killed the program, most likely for its memory")
        tail = self._stderr[-STDERR_TAIL_BYTES:].decode(errors="replace").strip()
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return Crashed(f"the program died: {how}" + (f" ({tail.splitlines()[-1]})" if tail else ""))

    def _read_frames(self, stream: IO[bytes]) -> None:
        while (frame := read_frame(stream)) is not None:
            self._frames.put(frame)
        self._frames.put(None)

    def _read_errors(self, stream: IO[bytes]) -> None:
        while data := stream.read1(4096):  # type: ignore[attr-defined]
            self._stderr = (self._stderr + data)[-STDERR_TAIL_BYTES:]


def _result(frame: Frame) -> dict[str, Any]:
    values = dict(frame.header)
    if values.pop("kind") != "done":
        raise Rejected(f"the worker answered {frame.kind!r}: agent and worker are of two versions")
    return values


def _environment(manifest: Mapping[str, Any]) -> dict[str, str]:
    threads = str(manifest.get("threads", 1))
    root = str(Path(__file__).resolve().parent.parent)
    return {**os.environ, "TVM_NUM_THREADS": threads, "PYTHONPATH": root}


def _resident_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _close(stream: IO[bytes] | None) -> None:
    try:
        if stream:
            stream.close()
    except BrokenPipeError:
        return
