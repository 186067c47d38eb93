"""A pool hands out whichever board is free, drops the dead, and says why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from hil_lab.inventory import served
from host.boards.client import BoardClient
from host.boards.pool import Pool
from host.errors import BoardBusy, BoardUnreachable
from tests.contracts.support import fake_machine


@pytest.fixture
def boards() -> Iterator[dict[str, BoardClient]]:
    with ExitStack() as stack:
        clients = {}
        for name in ("one", "two"):
            machine = fake_machine()
            machine = replace(machine, identity=replace(machine.identity, name=name))
            clients[name] = stack.enter_context(served(machine))
        dead = stack.enter_context(BoardClient("127.0.0.1:1", deadline_s=0.5))
        yield {"dead": dead, **clients}


def test_two_sessions_get_two_boards_and_the_dead_one_is_dropped(
    boards: dict[str, BoardClient],
) -> None:
    pool = Pool(boards, "me")
    with pool.session() as first, pool.session() as second:
        assert {first.info.name, second.info.name} == {"one", "two"}
        with pytest.raises(BoardBusy, match="taken: one: in use here"), pool.session():
            pass
    assert "no answer" in pool.dropped["dead"]


def test_somebody_elses_board_is_waited_for(boards: dict[str, BoardClient]) -> None:
    pool = Pool({"one": boards["one"]}, "me")
    with boards["one"].lease("other", ttl_s=0.5) as session:
        session._heart.stop(1.0)
        with pool.session(wait_s=5) as mine:
            assert mine.info.name == "one"


def test_a_board_that_fails_in_use_is_dropped(boards: dict[str, BoardClient]) -> None:
    pool = Pool({"one": boards["one"], "two": boards["two"]}, "me")
    with pytest.raises(BoardUnreachable), pool.session() as session:
        raise BoardUnreachable(f"{session.info.name}: cable pulled")
    assert pool.dropped == {"one": "one: cable pulled"}
    with pool.session() as session:
        assert session.info.name == "two"


def test_no_board_left_says_why_each_was_dropped(boards: dict[str, BoardClient]) -> None:
    pool = Pool({"dead": boards["dead"]}, "me")
    with pytest.raises(BoardUnreachable, match=r"no board is left: .*no answer"), pool.session():
        pass
