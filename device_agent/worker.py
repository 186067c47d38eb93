"""The child process that runs one job: a crash, a hang or a leak here cannot take the daemon down.

`python -m device_agent.worker` reads a job frame from stdin and writes frames to stdout: `phase`,
`output`, and last `done` or `error`. It dies with the daemon and is the first to go when the
board runs out of memory. It never opens a socket.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from device_agent import counters
from device_agent.errors import AgentError, Crashed, OutOfMemory, Rejected
from device_agent.frames import Frame, read_frame, write_frame
from device_agent.profile import profile
from device_agent.program import Program
from device_agent.timing import take_block
from device_agent.values import Job
from device_agent.verify import verify
from protos.values import TimingPlan

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run the one job of this process."""
    _die_with_parent()
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
    # Before the runtime starts its threads, which then inherit the counters.
    with counters.opened(header.get("counters", ())) as opened:
        return task(job, header, opened, replies)


def _block(
    job: Job, header: Mapping[str, Any], opened: counters.Counters, replies: IO[bytes]
) -> Mapping[str, Any]:
    program = Program(job)

    def on_phase(phase: str) -> None:
        write_frame(replies, {"kind": "phase", "phase": phase})
        if phase == "sample":
            opened.start()
        elif phase == "sampled":
            opened.stop()

    plan = TimingPlan(**header["plan"])
    invoke = program.bound(program.example())
    block = take_block(invoke, plan, time.perf_counter_ns, on_phase)
    counted = opened.read()
    notes = (*opened.notes, *opened.silent(counted))
    return {**asdict(block), "counters": [asdict(c) for c in counted], "notes": notes}


def _verify(
    job: Job, header: Mapping[str, Any], opened: counters.Counters, replies: IO[bytes]
) -> Mapping[str, Any]:
    return asdict(verify(Program(job), job))


def _profile(
    job: Job, header: Mapping[str, Any], opened: counters.Counters, replies: IO[bytes]
) -> Mapping[str, Any]:
    return asdict(profile(Program(job), header["repeats"], time.perf_counter_ns, opened))


def _infer(
    job: Job, header: Mapping[str, Any], opened: counters.Counters, replies: IO[bytes]
) -> Mapping[str, Any]:
    program = Program(job)
    while (frame := read_frame(sys.stdin.buffer)) is not None and frame.kind == "batch":
        write_frame(replies, {"kind": "output"}, [_batch(program, frame.arrays[0])])
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


def _die_with_parent() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise Crashed(f"prctl: {os.strerror(ctypes.get_errno())}")
    Path("/proc/self/oom_score_adj").write_text("1000")


def _claim_stdout() -> IO[bytes]:
    """Keep stdout for frames; what a program prints goes to stderr."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return replies


_TASKS = {"block": _block, "verify": _verify, "profile": _profile, "infer": _infer}

if __name__ == "__main__":
    sys.exit(main())
