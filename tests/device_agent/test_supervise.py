"""Artifacts that crash, loop or eat memory end as a clear error, and the daemon lives."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from device_agent.errors import Cancelled, Crashed, Hung, OutOfMemory, Rejected
from device_agent.supervise import ProcessRunner
from device_agent.values import Job, Limits
from host.artifact import Artifact
from host.boards.protocol import QUICK
from tests.contracts.support import plain_artifact

CC = shutil.which("cc") or shutil.which("gcc")
BODY = {
    "segfault": "*(volatile int *)0 = 1;",
    "loop": "for (volatile int i = 0;; i++) {}",
    "eat": "for (;;) { char *p = malloc(1 << 22); memset(p, 1, 1 << 22); usleep(2000); }",
    "print": 'printf("noise on stdout\\n"); fflush(stdout);',
}


@pytest.fixture
def evil(request: pytest.FixtureRequest, tmp_path: Path) -> Job:
    """A job whose shared library misbehaves as soon as it is loaded."""
    if CC is None:
        pytest.skip("no C compiler")
    source, out = tmp_path / "evil.c", tmp_path / "evil.so"
    head = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n"
    source.write_text(
        f"{head}__attribute__((constructor)) static void f(void) {{ {BODY[request.param]} }}\n"
    )
    subprocess.run([CC, "-O0", "-shared", "-fPIC", source, "-o", out], check=True)
    return job_of(plain_artifact(tmp_path / "evil", out.read_bytes()))


def job_of(artifact: Artifact) -> Job:
    return Job(artifact.manifest, artifact.root / "blobs", False, Limits(10.0, 1 << 30))


def run(job: Job, limits: Limits) -> None:
    ProcessRunner().verify(Job(job.manifest, job.blobs, False, limits))


@pytest.mark.tvm
class TestMisbehaving:
    @pytest.mark.parametrize("evil", ["segfault"], indirect=True)
    def test_a_segfault_is_a_crash_with_its_signal(self, evil: Job) -> None:
        with pytest.raises(Crashed, match="SIGSEGV"):
            run(evil, evil.limits)

    @pytest.mark.parametrize("evil", ["loop"], indirect=True)
    def test_an_endless_loop_is_a_hang(self, evil: Job) -> None:
        start = time.monotonic()
        with pytest.raises(Hung, match="no answer in 1 s"):
            run(evil, Limits(1.0, 1 << 30))
        assert time.monotonic() - start < 5

    @pytest.mark.parametrize("evil", ["eat"], indirect=True)
    def test_eating_memory_is_out_of_memory(self, evil: Job) -> None:
        with pytest.raises(OutOfMemory, match="the limit is 200"):
            run(evil, Limits(20.0, 200 << 20))

    @pytest.mark.parametrize("evil", ["loop"], indirect=True)
    def test_cancel_kills_the_child(self, evil: Job) -> None:
        runner = ProcessRunner()
        threading.Timer(0.5, runner.cancel).start()
        with pytest.raises(Cancelled):
            runner.verify(evil)
        assert not psutil.Process().children()

    @pytest.mark.parametrize("evil", ["print"], indirect=True)
    def test_a_library_without_a_program_is_rejected_also_when_it_prints(self, evil: Job) -> None:
        with pytest.raises(Rejected, match="cannot be loaded"):
            run(evil, evil.limits)


def test_a_worker_that_cannot_start_is_a_crash_that_says_why(
    library: bytes, tmp_path: Path
) -> None:
    job = job_of(plain_artifact(tmp_path / "a", library))
    command = (sys.executable, "-c", "raise SystemExit('no numpy here')")
    with pytest.raises(Crashed, match=r"exit status 1 \(no numpy here\)"):
        ProcessRunner(command).verify(job)


@pytest.mark.tvm
def test_a_worker_dies_with_its_daemon(plain: Artifact, tmp_path: Path) -> None:
    script = (
        "import sys,json,pathlib\n"
        "from dataclasses import replace\n"
        "from device_agent.supervise import ProcessRunner\n"
        "from device_agent.values import Job\n"
        "from host.artifact import Artifact\n"
        "from host.boards.protocol import QUICK\n"
        f"a = Artifact.load(pathlib.Path({str(plain.root)!r}))\n"
        "plan = replace(QUICK, seconds=60, cap_s=60)\n"
        "say = lambda phase: print(phase, flush=True)\n"
        "ProcessRunner().block(Job(a.manifest, a.root / 'blobs'), plan, say)\n"
    )
    daemon = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert daemon.stdout and daemon.stdout.readline() == b"warmup\n"
    (worker,) = psutil.Process(daemon.pid).children()
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()
    assert psutil.wait_procs([worker], timeout=5)[0]


@pytest.mark.tvm
def test_samples_of_another_shape_are_rejected(plain: Artifact) -> None:
    with pytest.raises(Rejected, match="do not fit"):
        list(ProcessRunner().infer(job_of(plain), [np.zeros((2, 7), np.float32)]))


@pytest.mark.tvm
def test_missing_counters_are_noted_not_fatal(plain: Artifact) -> None:
    block = ProcessRunner(counters=("no-such-event",)).block(job_of(plain), QUICK, lambda _: None)
    assert any("no-such-event" in note for note in block.notes)
    assert block.counters == ()
