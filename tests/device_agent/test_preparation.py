"""Pinned programs, addresses that are not random, and how both stand in the fingerprint."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from device_agent import unrandomised
from device_agent.cores import Cores
from device_agent.errors import Crashed, Unsupported
from device_agent.local import local_machine
from device_agent.preparation import Preparation
from device_agent.supervise import WORKER, ProcessRunner
from device_agent.values import Job, Limits
from host.artifact import Artifact
from host.boards.protocol import QUICK
from tests.contracts.support import plain_artifact

CC = shutil.which("cc") or shutil.which("gcc")
# Dies as soon as it is loaded, and its last words say where it was.
TELLS = r"""
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/personality.h>
__attribute__((constructor)) static void tell(void) {
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    fprintf(stderr, "cores");
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set)) fprintf(stderr, " %d", i);
    int fixed = (personality(0xffffffff) & ADDR_NO_RANDOMIZE) != 0;
    fprintf(stderr, ", fixed %d, bind %s\n", fixed, getenv("TVM_BIND_THREADS"));
    abort();
}
"""


@pytest.fixture(scope="module")
def teller(tmp_path_factory: pytest.TempPathFactory) -> Job:
    if CC is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("teller")
    (folder / "tell.c").write_text(TELLS)
    command = [CC, "-shared", "-fPIC", str(folder / "tell.c"), "-o", str(folder / "tell.so")]
    subprocess.run(command, check=True)
    artifact = plain_artifact(folder / "artifact", (folder / "tell.so").read_bytes())
    return Job(artifact.manifest, artifact.root / "blobs", True, Limits(20.0, 1 << 30))


def told(job: Job, runner: ProcessRunner) -> str:
    with pytest.raises(Crashed) as caught:
        runner.verify(job)
    return str(caught.value)


@pytest.mark.tvm
def test_a_program_is_pinned_before_it_is_loaded(teller: Job) -> None:
    core = max(os.sched_getaffinity(0))
    assert f"(cores {core}, fixed 0, bind 0)" in told(teller, ProcessRunner(cores=Cores((core,))))


@pytest.mark.tvm
def test_nothing_is_prepared_that_nobody_asked_for(teller: Job) -> None:
    cores = " ".join(map(str, sorted(os.sched_getaffinity(0))))
    assert f"(cores {cores}, fixed 0, bind (null))" in told(teller, ProcessRunner())


@pytest.mark.tvm
def test_addresses_are_fixed_on_request(teller: Job) -> None:
    unrandomised.check()
    assert "fixed 1" in told(teller, ProcessRunner(unrandomised.COMMAND))


@pytest.mark.tvm
def test_a_core_that_is_not_there_is_a_note(plain: Artifact) -> None:
    job = Job(plain.manifest, plain.root / "blobs", True)
    block = ProcessRunner(cores=Cores((4000,))).block(job, QUICK, lambda _: None)
    assert "not pinned to 4000: Invalid argument" in block.notes


def test_the_fingerprint_says_how_programs_and_the_board_were_prepared(tmp_path: Path) -> None:
    files = {
        "sys/class/leds/ACT/trigger": "[none] mmc0 timer\n",
        "sys/class/leds/PWR/trigger": "[none] default-on\n",
        "sys/class/drm/card1-HDMI-A-1/enabled": "disabled\n",
        "proc/irq/default_smp_affinity": "00000001\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    pinned = Preparation(Cores((0, 1, 2, 3)), aslr=False)
    assert pinned.fingerprint(tmp_path) == {
        "aslr": "off", "pinned": "3", "irq_mask": "1", "leds": "off", "hdmi": "off",
    }  # fmt: skip
    (tmp_path / "sys/class/leds/ACT/trigger").write_text("none [mmc0] timer\n")
    assert pinned.fingerprint(tmp_path)["leds"] == "on"
    assert Preparation().fingerprint(tmp_path) == {}


def test_a_prepared_machine_is_another_board_than_an_unprepared_one(tmp_path: Path) -> None:
    plain = local_machine("x", root=tmp_path)
    prepared = local_machine("x", root=tmp_path, preparation=Preparation(Cores((0, 1))))
    assert "pinned" not in plain.identity.fingerprint
    assert prepared.identity.fingerprint["pinned"] == "1"


def test_addresses_that_stay_random_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ("sh", "-c", "echo Operation not permitted; exit 1")
    monkeypatch.setattr(unrandomised, "COMMAND", refused)
    with pytest.raises(Unsupported, match=r"stay random here .Operation not permitted.: leave"):
        local_machine("x", preparation=Preparation(aslr=False))


def test_the_daemon_moves_to_the_first_core() -> None:
    before = os.sched_getaffinity(0)
    try:
        Preparation(Cores(tuple(sorted(before)))).settle_daemon()
        assert os.sched_getaffinity(0) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)
    assert WORKER != unrandomised.COMMAND
