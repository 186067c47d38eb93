"""What an emulated board does to its machine, without a machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from firmware_setup.remote import Done
from hil_lab.bench.faults.emulated import FILL, FREE, KILL, LISTENS, ROT, EmulatedBoard
from host.errors import BoardError


class FakeMachine:
    """A machine that writes down what is done to it."""

    agent_port = 7777

    def __init__(self) -> None:
        self.log: list[str] = []
        self.runs = False
        self.status = 0

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: self.log.append(name)

    def start(self) -> None:
        self.runs = True
        self.log.append("start")

    def power_cut(self) -> None:
        self.runs = False
        self.log.append("power_cut")

    def remote(self) -> FakeMachine:
        return self

    def __enter__(self) -> FakeMachine:
        self.log.append("connect")
        return self

    def __exit__(self, *error: object) -> None:
        self.log.append("hang up")

    where = "fake"

    def run(self, command: str, stdin: bytes) -> Done:
        self.log.append(command)
        return Done(self.status, b"", "no")


@pytest.fixture
def machine() -> FakeMachine:
    return FakeMachine()


@pytest.fixture
def board(machine: FakeMachine) -> EmulatedBoard:
    return EmulatedBoard(machine, {"ca": Path("ca.crt")})  # type: ignore[arg-type]


def test_a_start_waits_for_the_agent(board: EmulatedBoard, machine: FakeMachine) -> None:
    board.start()
    assert machine.log == ["start", "wait_for_ssh", "connect", LISTENS]


def test_orders_share_a_connection(board: EmulatedBoard, machine: FakeMachine) -> None:
    board.start()
    for strike in (board.kill, board.fill_disk, board.free_disk, board.rot):
        strike()
    assert machine.log[-4:] == [KILL, FILL, FREE, ROT]
    assert machine.log.count("connect") == 1


def test_after_a_power_cut_it_boots_and_connects_anew(
    board: EmulatedBoard, machine: FakeMachine
) -> None:
    board.start()
    assert board.power_cut() == []
    board.start()
    again = ["power_cut", "hang up", "start", "wait_for_ssh", "connect", LISTENS]
    assert machine.log[-6:] == again


def test_a_reset_comes_back_by_itself(board: EmulatedBoard, machine: FakeMachine) -> None:
    board.start()
    board.reset()
    assert machine.log[-5:] == ["reset", "hang up", "wait_for_ssh", "connect", LISTENS]


def test_the_clock_jumps_by_what_was_asked(board: EmulatedBoard, machine: FakeMachine) -> None:
    board.jump(-86_400)
    assert machine.log[-1] == "date -s @$(($(date +%s) + -86400))"


def test_the_next_trial_finds_it_as_new(board: EmulatedBoard, machine: FakeMachine) -> None:
    board.start()
    board.freeze()
    board.close()
    assert machine.log[-5:-2] == ["thaw", "wait_for_ssh", LISTENS]
    assert "rm -rf /var/lib/hil-lab/agent;" in machine.log[-2]
    assert machine.log[-1] == "hang up"


def test_an_order_that_fails_is_an_error(board: EmulatedBoard, machine: FakeMachine) -> None:
    machine.status = 1
    with pytest.raises(BoardError, match=r"fake: systemctl kill .*: no"):
        board.kill()
