"""Commands that hold one board: a board that restarts in the middle is waited for, then asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hil_lab.held import held
from host.artifact import Artifact
from host.boards.client import BoardClient
from tests.contracts.support import FakeRunner, fake_machine, plain_artifact
from tests.hil_lab.commands import hil_lab
from tests.host.boards.agents import Restarting, restarting


class Rehearsal:
    """A board that is killed as soon as a program runs on it, and boots a little later."""

    def __init__(self, board: Restarting, runner: FakeRunner) -> None:
        self.board, self.runner = board, runner

    def accident(self) -> threading.Thread:
        """Wait for the next program in a thread, and let the board restart under it."""
        self.runner.blocking = True
        happens = threading.Thread(target=self._restart, daemon=True)
        happens.start()
        return happens

    def _restart(self) -> None:
        assert self.runner.started.wait(20)
        self.runner.blocking = False
        self.board.die()
        self.runner.gate.set()
        self.board.boot()


@pytest.fixture
def rehearsal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rehearsal]:
    monkeypatch.chdir(tmp_path)
    runner = FakeRunner()
    with restarting(tmp_path / "state", machine=fake_machine(runner)) as (board, _):
        entry = f'kind = "fake"\naddress = "{board.address}"\n'
        Path("boards.toml").write_text(f"[boards.fake]\n{entry}")
        yield Rehearsal(board, runner)


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return plain_artifact(tmp_path / "artifact", b"no library")


@pytest.mark.parametrize(
    "command",
    [
        ("verify", "artifact", "--board", "fake"),
        ("boards", "measure", "fake", "artifact", "--protocol", "quick"),
        ("boards", "profile", "fake", "artifact"),
    ],
    ids=["verify", "measure", "profile"],
)
def test_a_command_goes_on_after_a_restart(
    rehearsal: Rehearsal, artifact: Artifact, command: tuple[str, ...]
) -> None:
    happens = rehearsal.accident()
    done = hil_lab(*command)
    happens.join(20)
    assert done.status == 0, done.err
    assert rehearsal.board.boots == 2
    assert "lost     fake" in done.err
    assert "back     fake answers again, under lease 2" in done.err


def test_an_inference_begins_again_after_a_restart(
    rehearsal: Rehearsal, artifact: Artifact
) -> None:
    samples = np.zeros((3, 64), np.float32)
    happens = rehearsal.accident()
    with held("fake", "evaluate", silent=True) as board:
        assert board.do(lambda session: session.infer(artifact, samples)).shape == (3, 10)
    happens.join(20)
    assert rehearsal.board.boots == 2


def test_json_output_is_not_spoiled_by_what_is_told(
    rehearsal: Rehearsal, artifact: Artifact
) -> None:
    happens = rehearsal.accident()
    done = hil_lab("verify", "artifact", "--board", "fake", "--json")
    happens.join(20)
    assert done.status == 0 and done.err == ""
    assert "complaints" in done.json


def test_a_board_that_is_taken_is_said_at_once(rehearsal: Rehearsal, artifact: Artifact) -> None:
    with BoardClient(rehearsal.board.address) as client, client.lease("ann"):
        done = hil_lab("verify", "artifact", "--board", "fake")
    assert done.status == 1 and "leased by ann" in done.err
