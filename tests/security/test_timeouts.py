"""A peer that is frozen: noticed within 10 s on either side, and the sentence says who waited."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil_lab.inventory import served
from host.artifact import Artifact
from host.boards.client import BoardClient
from host.boards.protocol import QUICK
from host.errors import BoardUnreachable
from tests.contracts.support import FakeRunner, fake_machine, plain_artifact

NOTICED_S = 10.0
ROOT = Path(__file__).parent.parent.parent
# An agent whose runs never end.
AGENT = """
import pathlib, sys, time
from device_agent.server import make_server
from tests.contracts.support import FakeRunner, fake_machine
server, port = make_server(fake_machine(FakeRunner(blocking=True)), pathlib.Path(sys.argv[1]))
server.start()
print(port, flush=True)
time.sleep(120)
"""
CLIENT = """
import pathlib, sys
from host.artifact import Artifact
from host.boards.client import BoardClient
from host.boards.protocol import QUICK
with BoardClient(sys.argv[1]) as client, client.lease("frozen") as session:
    session.measure(Artifact.load(pathlib.Path(sys.argv[2])), QUICK)
"""


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield running
    finally:
        running.kill()
        running.wait()
        assert running.stdout
        running.stdout.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with process(AGENT, tmp_path / "state") as running:
        assert running.stdout
        yield running, f"127.0.0.1:{int(running.stdout.readline())}"


@pytest.fixture
def artifact(library: bytes, tmp_path: Path) -> Artifact:
    return plain_artifact(tmp_path / "artifact", library)


def test_a_board_that_freezes_in_a_measurement_is_noticed(
    agent: tuple[subprocess.Popen[str], str], artifact: Artifact
) -> None:
    running, address = agent
    frozen: list[float] = []

    def freeze(progress: object) -> None:
        running.send_signal(signal.SIGSTOP)
        frozen.append(time.monotonic())

    with BoardClient(address) as client, client.lease("me") as session:
        with pytest.raises(BoardUnreachable, match=r"^fake: no answer to Measure after \d+\.\d s"):
            session.measure(artifact, QUICK, on_progress=freeze)
        assert time.monotonic() - frozen[0] < NOTICED_S


def test_a_frozen_board_is_noticed_by_who_comes_new(
    agent: tuple[subprocess.Popen[str], str],
) -> None:
    running, address = agent
    running.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    with (
        BoardClient(address) as client,
        pytest.raises(BoardUnreachable, match=r"no answer to Describe after \d+\.\d s"),
    ):
        client.describe()
    assert time.monotonic() - start < NOTICED_S


def test_a_user_who_freezes_loses_the_run_and_the_board_is_free_for_the_next(
    artifact: Artifact,
) -> None:
    runner = FakeRunner(blocking=True)
    with (
        served(fake_machine(runner)) as client,
        process(CLIENT, client.address, artifact.root) as user,
    ):
        assert runner.started.wait(20)
        user.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        while client.describe().state == "measuring":
            assert time.monotonic() - start < NOTICED_S
            time.sleep(0.1)
        assert runner.cancelled
