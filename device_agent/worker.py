"""The child process that runs one job: a crash, a hang or a leak here leaves the daemon alone.

`python -m device_agent.worker` reads a job frame from stdin and writes frames to stdout:
`confined`, `phase`, `output`, and last `done` or `error`. It dies with the daemon and is the first
to go when the board runs out of memory. All that is trusted is loaded first; then it confines
itself (sandbox.py), and only then loads the program.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from device_agent import counters, linux
from device_agent.artifacts import blob_digests
from device_agent.errors import AgentError, Crashed, OutOfMemory, Rejected
from device_agent.frames import Frame, read_frame, write_frame
from device_agent.profile import profile
from device_agent.program import Program, load_runtime
from device_agent.sandbox import Confinement, confine
from device_agent.timing import take_block
from device_agent.values import Job
from device_agent.verify import verify
from protos.values import TimingPlan


@dataclass(frozen=True, slots=True)
class _Task:
    """A job in a worker that is confined: what it needs, and where its frames go."""

    job: Job
    header: Mapping[str, Any]
    counters: counters.Counters
    runtime: Any
    replies: IO[bytes]

    def program(self) -> Program:
        """Load the program."""
        return Program(self.job, self.runtime)


def main() -> int:
    """Run the one job of this process."""
    _die_first()
    replies = _claim_stdout()
    frame = read_frame(sys.stdin.buffer)
    if frame is None:
        return 0
    try:
        write_frame(replies, {"kind": "done", **_run(frame, replies)})
    except AgentError as e:
        write_frame(replies, {"kind": "error", "reason": e.reason, "message": str(e)})
    except MemoryError:
        reply = {"kind": "error", "reason": OutOfMemory.reason, "message": "allocation failed"}
        write_frame(replies, reply)
    return 0


def _run(frame: Frame, replies: IO[bytes]) -> Mapping[str, Any]:
    header = frame.header
    job = Job(header["manifest"], Path(header["blobs"]), synthetic=header["synthetic"])
    task = _TASKS.get(frame.kind)
    if task is None:
        raise Rejected(f"unknown task {frame.kind!r}")
    runtime = load_runtime()
    # Before the runtime starts its threads, which then inherit the counters, and while this
    # process still may open them.
    with counters.opened(header.get("counters", ())) as opened:
        unpinned = _pin(header.get("cores", ()))
        confined = confine(_confinement(job, header["sandbox"]))
        write_frame(replies, {"kind": "confined", "wrappers": confined.wrappers})
        result = task(_Task(job, header, opened, runtime, replies))
    if "notes" in result:
        return {**result, "notes": (*unpinned, *confined.notes, *result["notes"])}
    return result


def _pin(cores: Sequence[int]) -> tuple[str, ...]:
    """Stay on some cores, all threads that are yet to come too; return what could not be done."""
    try:
        if cores:
            os.sched_setaffinity(0, cores)
    except OSError as e:
        return (f"not pinned to {', '.join(map(str, cores))}: {e.strerror}",)
    return ()


def _confinement(job: Job, settings: Mapping[str, Any]) -> Confinement:
    """Return how to confine a job: it is shown the blobs that it needs, and no others."""
    library = job.manifest["library"]["digest"]
    digests = [library] if job.synthetic else blob_digests(job.manifest)
    return Confinement(files=tuple(job.blobs / d for d in dict.fromkeys(digests)), **settings)


def _block(task: _Task) -> Mapping[str, Any]:
    program, opened = task.program(), task.counters

    def on_phase(phase: str) -> None:
        write_frame(task.replies, {"kind": "phase", "phase": phase})
        for first in opened.passes[:1]:
            if phase == "sample":
                first.start()
            elif phase == "sampled":
                first.stop()

    plan = TimingPlan(**task.header["plan"])
    invoke = program.bound(program.example())
    block = take_block(invoke, plan, time.perf_counter_ns, on_phase)
    counted = [c for each in opened.passes[:1] for c in each.read(len(block.samples_ns))]
    # The samples belong to the first pass; the others get runs of their own.
    for each in opened.passes[1:]:
        each.start()
        for _ in range(plan.runs):
            invoke()
        each.stop()
        counted += each.read(plan.runs)
    notes = (*opened.notes, *opened.silent(counted))
    return {**asdict(block), "counters": [asdict(c) for c in counted], "notes": notes}


def _verify(task: _Task) -> Mapping[str, Any]:
    return asdict(verify(task.program(), task.job))


def _profile(task: _Task) -> Mapping[str, Any]:
    repeats = task.header["repeats"]
    return asdict(profile(task.program(), repeats, time.perf_counter_ns, task.counters))


def _infer(task: _Task) -> Mapping[str, Any]:
    program = task.program()
    while (frame := read_frame(sys.stdin.buffer)) is not None and frame.kind == "batch":
        write_frame(task.replies, {"kind": "output"}, [_batch(program, frame.arrays[0])])
    return {}


def _batch(program: Program, samples: np.ndarray) -> np.ndarray:
    """Run [n, ...] through a program that takes `batch` samples; the last one may be padded."""
    spec = program.manifest["inputs"][0]
    batch, item = spec["shape"][0], tuple(spec["shape"][1:])
    if samples.shape[1:] != item or not len(samples):
        raise Rejected(f"samples {samples.shape} do not fit the program's input {spec['shape']}")
    samples = samples.astype(spec["dtype"], copy=False)
    short = -len(samples) % batch
    padded = np.concatenate([samples, np.repeat(samples[:1], short, axis=0)])
    parts = [program.run(padded[i : i + batch]) for i in range(0, len(padded), batch)]
    return np.concatenate(parts)[: len(samples)]


def _die_first() -> None:
    """Die with the daemon, and before it where memory is short."""
    try:
        linux.die_with_parent()
    except OSError as e:
        raise Crashed(str(e)) from e
    Path("/proc/self/oom_score_adj").write_text("1000")


def _claim_stdout() -> IO[bytes]:
    """Keep stdout for frames; what a program prints goes to stderr."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return replies


_TASKS: dict[str, Callable[[_Task], Mapping[str, Any]]] = {
    "block": _block,
    "verify": _verify,
    "profile": _profile,
    "infer": _infer,
}

if __name__ == "__main__":
    sys.exit(main())
