"""One worker process seen from the daemon: frames, limits, and how it ended; trusts none of it.

The worker runs code that somebody sent. Whatever it writes, the daemon reads a bounded amount and
ends it, with all that it started.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from device_agent.errors import RUN_FAILURES, Cancelled, Crashed, Hung, OutOfMemory
from device_agent.frames import BadFrame, Frame, read_frame, write_frame
from device_agent.usage import resident_bytes
from device_agent.values import Job

POLL_S = 0.02
STDERR_TAIL_BYTES = 400
WAITING_FRAMES = 8
# What a program may see of the daemon's environment.
KEPT = frozenset({"PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "HIL_TVM_RUNTIME"})
KEPT_FAMILIES = ("LC_", "PYTHON", "OMP_", "TVM_", "QEMU_")


class Child:
    """One worker process; `receive` waits for a frame until a limit is passed."""

    def __init__(
        self, command: Sequence[str], job: Job, variables: Mapping[str, str] | None = None
    ) -> None:
        self._limits = job.limits
        self._why: Cancelled | Hung | OutOfMemory | Crashed | None = None
        self._wrappers: int | None = None
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**_environment(job.manifest), **(variables or {})},
            start_new_session=True,  # what it starts is of its group, and ends with it
        )
        self._frames: queue.Queue[Frame | None] = queue.Queue(WAITING_FRAMES)
        self._ended = threading.Event()
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
        with suppress(BrokenPipeError):
            write_frame(self._stdin, header, arrays)

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
                reason, message = str(frame.header.get("reason")), frame.header.get("message")
                raise RUN_FAILURES.get(reason, Crashed)(str(message))
            if frame.kind != "confined" or self._wrappers is not None:
                return frame
            # Written before the program is loaded, so the first one is the worker's own word.
            self._wrappers = int(frame.header["wrappers"])

    def cancel(self) -> None:
        """Kill the child; its next `receive` raises Cancelled."""
        self._kill(Cancelled("the run was cancelled"))

    def end(self) -> None:
        """Make sure that the child is gone and nothing of it is left open."""
        self._ended.set()
        self._signal()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self._stdin, self._process.stdout, self._process.stderr):
            _close(stream)

    def _check_limits(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            self._kill(Hung(f"no answer in {self._limits.deadline_s:g} s: the program hangs"))
        resident = resident_bytes(self._process.pid, self._wrappers or 0)
        if resident > self._limits.memory_bytes:
            limit = self._limits.memory_bytes >> 20
            self._kill(OutOfMemory(f"the program took {resident >> 20} MiB, the limit is {limit}"))

    def _kill(self, why: Cancelled | Hung | OutOfMemory | Crashed) -> None:
        self._why = self._why or why
        self._signal()

    def _signal(self) -> None:
        """Kill the child and its group; namespaces end with the process that entered them."""
        if self._process.returncode is None:  # not buried, so the number still is its own
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _post_mortem(self) -> Cancelled | Hung | OutOfMemory | Crashed:
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._signal()
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
        try:
            while (frame := read_frame(stream)) is not None and self._put(frame):
                continue
        except BadFrame as e:
            self._kill(Crashed(f"the program wrote what it must not: {e}"))
        self._put(None)

    def _put(self, frame: Frame | None) -> bool:
        """Hand a frame over once there is room; False where nobody takes any more."""
        while not self._ended.is_set():
            try:
                self._frames.put(frame, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def _read_errors(self, stream: IO[bytes]) -> None:
        while data := stream.read1(4096):  # type: ignore[attr-defined]
            self._stderr = (self._stderr + data)[-STDERR_TAIL_BYTES:]


def sandbox_lacks() -> str:
    """Return what this machine does not grant to confine a program; '' where it grants all."""
    command = (sys.executable, "-m", "device_agent.sandbox")
    environment = _environment({})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return (
        "; ".join((done.stdout or done.stderr).split("\n")).strip("; ") if done.returncode else ""
    )


def _environment(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the worker's variables: of the daemon's own, those that cannot be secrets."""
    threads = str(manifest.get("threads", 1))
    root = str(Path(__file__).resolve().parent.parent)
    # Where a board's packages are not Python's own, the daemon's variable says where they are.
    packages = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(p)]
    ours = {
        "TVM_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": "1",  # namespaces are entered before there are threads
        "PYTHONPATH": os.pathsep.join([root, *packages]),
        "PYTHONSAFEPATH": "1",  # nothing is imported from where the daemon happens to stand
    }
    kept = {k: v for k, v in os.environ.items() if k in KEPT or k.startswith(KEPT_FAMILIES)}
    return {**kept, **ours}


def _close(stream: IO[bytes] | None) -> None:
    with suppress(BrokenPipeError):
        if stream:
            stream.close()
