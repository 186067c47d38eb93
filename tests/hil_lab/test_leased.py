"""Reaching and leasing the boards of a recipe: who may be missing, and who may not."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from hil_lab import leased
from hil_lab.inventory import served
from hil_lab.recipe import MeasureTable, Recipe
from host.boards.client import BoardClient
from host.errors import BoardError, BoardUnreachable, CallerError
from tests.contracts.support import fake_machine


@dataclass
class Desk:
    """A workbench that takes down what is said and written."""

    recipe: Recipe
    said: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def reporter(self) -> Any:
        return SimpleNamespace(say=self.said.append)

    @property
    def run(self) -> Any:
        def event(kind: str, **fields: Any) -> None:
            self.events.append({"event": kind, **fields})

        return SimpleNamespace(name="a-run", event=event)


def desk(*boards: str, fleet: str = "each") -> Any:
    return Desk(Recipe("m", "digits", board=boards, measure=MeasureTable(fleet=fleet)))


@pytest.fixture(autouse=True)
def _boards(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def opened(name: str) -> Iterator[BoardClient]:
        if name.startswith("dead"):
            with BoardClient("127.0.0.1:1", deadline_s=0.3) as client:
                yield client
            return
        machine = fake_machine()
        kind = "other" if name.startswith("odd") else "fake"
        identity = replace(machine.identity, name=name, kind=kind)
        with served(replace(machine, identity=identity)) as client:
            yield client

    monkeypatch.setattr(leased, "open_board", opened)


def leased_names(bench: Any) -> list[str]:
    with ExitStack() as stack:
        wanted = leased.Wanted.by(bench)
        clients, info = leased.reach(wanted, stack)
        assert info.arch == platform.machine()
        return [session.info.name for session in leased.lease(wanted, stack, clients)]


def test_all_boards_are_leased_in_the_order_of_the_recipe() -> None:
    bench = desk("two", "one", "three")
    assert leased_names(bench) == ["two", "one", "three"]
    assert (bench.said, bench.events) == ([], [])


def test_a_board_that_does_not_answer_is_left_out_and_told() -> None:
    bench = desk("one", "dead", "two")
    assert leased_names(bench) == ["one", "two"]
    (said,) = bench.said
    assert "no answer" in said and "going on without this board" in said
    assert bench.events == [{"event": "board dropped", "why": bench.events[0]["why"]}]


def test_without_any_the_search_does_not_start() -> None:
    with pytest.raises(BoardUnreachable, match=r"no board is left: .*no answer.*; .*no answer"):
        leased_names(desk("dead-1", "dead-2"))


@pytest.mark.parametrize(("boards", "fleet"), [(("dead",), "each"), (("one", "dead"), "median")])
def test_the_only_board_and_a_fleets_board_must_be_there(
    boards: tuple[str, ...], fleet: str
) -> None:
    with pytest.raises(BoardError, match="no answer") as caught:
        leased_names(desk(*boards, fleet=fleet))
    assert "no board is left" not in str(caught.value)


def test_boards_of_two_kinds_are_refused_by_name() -> None:
    with pytest.raises(CallerError, match=r"one is fake .* and odd is other .*boards of one kind"):
        leased_names(desk("one", "odd"))


@pytest.mark.parametrize(("fleet", "width"), [("each", 3), ("median", 1), ("p90", 1)])
def test_a_fleet_is_asked_for_one_policy_at_a_time(fleet: str, width: int) -> None:
    """And the width is the recipe's, whoever is missing today."""
    bench: Any = desk("one", "two", "three", fleet=fleet)
    boards = leased.LeasedBoards(bench, [], None, None)  # type: ignore[arg-type]
    assert boards.width == width


@pytest.mark.parametrize(
    ("kind", "watched"), [("rpi4", True), ("local", False), ("emulated", False)]
)
def test_a_board_is_watched_for_drift_where_its_time_means_something(
    kind: str, watched: bool
) -> None:
    session: Any = SimpleNamespace(info=SimpleNamespace(name="a", kind=kind))
    parts: Any = object()
    boards = leased.LeasedBoards(desk("a"), [session], parts, parts, anchor=parts)
    (meter,) = boards.meter_for("quick").meters
    assert (meter.watch is not None) == watched
