"""Boards side by side: each program at its place, and the next board for one that failed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from device_agent.errors import Crashed
from host.artifact import Artifact
from host.errors import BoardError, BoardUnreachable
from host.rack import Rack
from host.store import Store
from tests.contracts.support import plain_artifact
from tests.host.boards_of import SteadyRunner, meters_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store.db")


@pytest.fixture
def artifacts(tmp_path: Path) -> list[Artifact]:
    """Four programs of four structures."""
    return [
        plain_artifact(tmp_path / str(i), b"no library", structure=f"structure {i}")
        for i in range(4)
    ]


def boards(store: Store, rack: Rack, artifacts: list[Artifact]) -> list[str]:
    """Measure a batch and return the boards that did."""
    jobs = [rack.measure(artifact, place) for place, artifact in enumerate(artifacts)]
    return [store.measurement(job.result(20).measurement).board for job in jobs]


def test_the_place_decides_which_board_measures(store: Store, artifacts: list[Artifact]) -> None:
    with meters_of({"one": SteadyRunner(), "two": SteadyRunner()}, store) as meters:
        rack = Rack(meters)
        assert boards(store, rack, artifacts) == ["one", "two", "one", "two"]
        rack.close()


def test_boards_measure_at_the_same_time(store: Store, artifacts: list[Artifact]) -> None:
    together = threading.Barrier(2)
    fakes = {name: SteadyRunner(together=together) for name in ("one", "two")}
    with meters_of(fakes, store) as meters:
        rack = Rack(meters)
        assert boards(store, rack, artifacts) == ["one", "two", "one", "two"]
        rack.close()


def test_a_board_that_fails_hands_on_its_program_and_all_that_wait_for_it(
    store: Store, artifacts: list[Artifact]
) -> None:
    said: list[str] = []
    fakes = {"one": SteadyRunner(), "two": SteadyRunner(fail=Crashed("the program died"))}
    with meters_of(fakes, store) as meters:
        rack = Rack(meters, lambda why: said.append(str(why)))
        assert boards(store, rack, artifacts) == ["one"] * 4
        assert rack.alive == [0]
        rack.close()
    assert len(said) == 1
    assert "two" in said[0] and "the program died" in said[0]


def test_no_board_left_is_one_sentence_with_every_reason(
    store: Store, artifacts: list[Artifact]
) -> None:
    said: list[BoardError] = []
    fakes = {name: SteadyRunner(fail=Crashed("the program died")) for name in ("one", "two")}
    with meters_of(fakes, store) as meters:
        rack = Rack(meters, said.append)
        with pytest.raises(BoardUnreachable, match=r"no board is left: .*one.*; .*two") as caught:
            rack.measure(artifacts[0], 0).result(20)
        rack.close()
    assert "\n" not in str(caught.value)
    assert len(said) == 1, "the last one is the search's own error"


def test_what_is_no_boards_fault_drops_none(store: Store, artifacts: list[Artifact]) -> None:
    with meters_of({"one": SteadyRunner(), "two": SteadyRunner()}, store) as meters:
        rack = Rack(meters)
        store.close()
        with pytest.raises(Exception, match="closed"):
            rack.measure(artifacts[0], 0).result(20)
        assert rack.alive == [0, 1]
        rack.close()


def test_a_rack_needs_a_board() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Rack([])
