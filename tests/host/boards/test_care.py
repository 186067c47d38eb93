"""Boards that restart under a lease: found again, leased again, their power cycled if need be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from host.artifact import Artifact
from host.boards.care import Care, Waits, awaited, check_same
from host.boards.protocol import QUICK
from host.boards.types import BoardInfo
from host.crew import Crew
from host.errors import (
    BoardBusy,
    BoardQuarantined,
    BoardUnreachable,
    LeaseLost,
    SupplyError,
    VersionMismatch,
)
from tests.contracts.support import fake_machine, plain_artifact
from tests.host.boards.agents import restarting
from tests.host.boards_of import SteadyRunner

INFO = BoardInfo("pi", "rpi4", "aarch64", "1", 1, 1, {"clock_mhz": "1800"}, (), "free")
GONE = BoardUnreachable("pi: no answer")


@dataclass
class Time:
    """A clock that only sleeping moves."""

    now_s: float = 0.0

    def clock_s(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class Switch:
    """A supply that takes down what is asked of it."""

    on_cycle: Callable[[], None] = lambda: None
    cycles: int = 0

    def cycle(self, sleep: Callable[[float], None], off_s: float = 5.0) -> None:
        self.cycles += 1
        self.on_cycle()


@dataclass
class Away:
    """A board that answers from some time on."""

    time: Time
    from_s: float
    asked: list[float] = field(default_factory=list)

    def describe(self) -> BoardInfo:
        self.asked.append(self.time.now_s)
        if self.time.now_s < self.from_s:
            raise GONE
        return INFO


def care(time: Time, switch: Any = None, said: list[str] | None = None) -> Care:
    say = (said if said is not None else []).append
    return Care(say, switch, sleep=time.sleep, clock_s=time.clock_s)


def test_a_board_that_answers_is_not_power_cycled() -> None:
    time, switch = Time(), Switch()
    assert awaited(Away(time, 0.0).describe, GONE, care(time, switch)) == INFO
    assert switch.cycles == 0


def test_a_silent_board_is_cycled_once_and_waited_for() -> None:
    time, switch, said = Time(), Switch(), list[str]()
    assert awaited(Away(time, 40.0).describe, GONE, care(time, switch, said)) == INFO
    assert switch.cycles == 1
    assert said == ["power    pi: no answer; switching it off and on"]


def test_a_board_without_a_switch_has_a_minute_to_come_back() -> None:
    time = Time()
    assert awaited(Away(time, 50.0).describe, GONE, care(time)) == INFO
    with pytest.raises(BoardUnreachable, match="no answer; it did not come back for 60 s"):
        awaited(Away(time, 1e9).describe, GONE, care(time))


def test_a_board_that_no_power_helps_says_so() -> None:
    time = Time()
    with pytest.raises(BoardUnreachable, match="its power was cycled, and it is silent for 180 s"):
        awaited(Away(time, 1e9).describe, GONE, care(time, Switch()))


def test_a_switch_that_fails_is_part_of_the_story() -> None:
    def fail() -> None:
        raise SupplyError("uhubctl: exit status 1")

    time = Time()
    with pytest.raises(BoardUnreachable, match=r"no answer; its power .* exit status 1"):
        awaited(Away(time, 1e9).describe, GONE, care(time, Switch(fail)))


def test_another_board_at_the_same_address_is_refused() -> None:
    check_same(INFO, replace(INFO, state="leased", holder="me"))
    with pytest.raises(VersionMismatch, match=r"another board \(clock_mhz\)"):
        check_same(INFO, replace(INFO, fingerprint={"clock_mhz": "1500"}))


def test_a_wait_is_told_when_the_place_changes_and_once_a_minute() -> None:
    time, said = Time(), list[str]()
    waits = Waits(care(time, said=said))
    for place, seconds in ((2, 0.0), (2, 30.0), (2, 40.0), (1, 1.0), (1, 1.0)):
        time.sleep(seconds)
        waits.refused(BoardBusy(f"place {place} at {time.now_s:g}", place))
    assert said == ["wait     place 2 at 0", "wait     place 2 at 70", "wait     place 1 at 71"]


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return plain_artifact(tmp_path / "artifact", b"no library")


def test_a_measurement_goes_on_after_a_reboot_under_a_new_fence(
    artifact: Artifact, tmp_path: Path
) -> None:
    with (
        restarting(tmp_path / "state", machine=fake_machine(SteadyRunner())) as (board, client),
        client.lease("me", care=Care()) as session,
    ):
        crew = Crew([session], revive=type(session).revive)
        first = session.fence
        assert crew.submit(lambda s: s.measure(artifact, QUICK), 0).result(30).board == "fake"
        board.die()
        threading.Timer(0.5, board.boot).start()
        assert crew.submit(lambda s: s.measure(artifact, QUICK), 0).result(30).board == "fake"
        assert session.fence > first
        assert client.describe().holder == "me"
        crew.close()
    assert board.boots == 2


def test_the_power_is_cycled_in_the_middle_of_a_measurement_and_nothing_counts_twice(
    artifact: Artifact, tmp_path: Path
) -> None:
    runner = SteadyRunner(together=threading.Barrier(2))
    with restarting(tmp_path / "state", machine=fake_machine(runner)) as (board, client):

        def cycled() -> None:
            runner.together = None
            board.boot()

        kind = Care(supply=Switch(cycled))  # type: ignore[arg-type]
        with client.lease("me", care=kind) as session:
            crew = Crew([session], revive=type(session).revive)
            job = crew.submit(lambda s: s.measure(artifact, QUICK), 0)
            while not session._token or client.describe().state != "measuring":
                time.sleep(0.05)
            board.die()
            measured = job.result(40)
            assert len(measured.blocks) == QUICK.blocks
            crew.close()
            assert runner.together is None or runner.together.abort() is None
    assert board.boots == 2


def test_a_lease_from_before_the_reboot_is_dead_without_care(
    artifact: Artifact, tmp_path: Path
) -> None:
    with restarting(tmp_path / "state") as (board, client), client.lease("me") as session:
        board.die()
        board.boot()
        with pytest.raises((LeaseLost, BoardUnreachable)) as caught:
            for _ in range(3):
                session.upload(artifact)
        with pytest.raises(type(caught.value)):
            session.revive(caught.value)


def test_a_wire_that_failed_alone_costs_no_lease(tmp_path: Path) -> None:
    with restarting(tmp_path / "state") as (_, client), client.lease("me", care=Care()) as session:
        token = session._token
        session.revive(BoardUnreachable("a broken wire"))
        assert session._token == token


def test_an_ended_lease_is_taken_again(artifact: Artifact, tmp_path: Path) -> None:
    with (
        restarting(tmp_path / "state", machine=fake_machine(SteadyRunner())) as (_, client),
        client.lease("me", care=Care()) as session,
    ):
        assert client.end_lease()[0] == "me"
        assert client.end_lease() == ("", 0.0)
        with pytest.raises(LeaseLost) as caught:
            session.measure(artifact, QUICK)
        session.revive(caught.value)
        assert session.measure(artifact, QUICK).board == "fake"


def test_a_quarantined_board_says_why_until_it_is_reset(tmp_path: Path) -> None:
    with restarting(tmp_path / "state") as (board, client):
        with client.lease("me") as session:
            session.quarantine("the fan is broken")
        board.die()
        board.boot()
        with (
            pytest.raises(BoardQuarantined, match="quarantined: the fan is broken"),
            client.lease("you", wait_s=30),
        ):
            pass
        assert (client.describe().state, client.describe().reason) == (
            "quarantined",
            "the fan is broken",
        )
        assert client.reset() == "the fan is broken"
        with client.lease("you"):
            assert client.describe().queue_length == 0


def test_a_host_that_waits_sees_its_place_and_gets_the_board_in_turn(tmp_path: Path) -> None:
    said: list[str] = []
    with restarting(tmp_path / "state") as (_, client):
        with client.lease("ann"):
            pass
        waiting = threading.Thread(target=_wait, args=(client, "bob", said), daemon=True)
        with client.lease("ann"):
            waiting.start()
            while not said:
                time.sleep(0.05)
            assert client.describe().queue_length == 1
        waiting.join(20)
    assert "leased by ann" in said[0] and "1st in the queue, about" in said[0]
    assert said[-1] == "bob has it"


def _wait(client: Any, holder: str, said: list[str]) -> None:
    with client.lease(holder, wait_s=20, care=Care(said.append)):
        said.append(f"{holder} has it")
