"""Crews whose boards go away: brought back once per job, and dropped when that does not help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from host.crew import Crew
from host.errors import BoardError, BoardUnreachable, LeaseLost, MeasurementFailed


@dataclass
class Board:
    """Does jobs unless it is away; `away` counts the jobs that it fails."""

    name: str
    away: int = 0
    error: type[BoardError] = BoardUnreachable
    done: list[int] = field(default_factory=list)
    revived: int = 0
    comes_back: bool = True

    def do(self, job: int) -> str:
        if self.away:
            self.away -= 1
            raise self.error(f"{self.name}: no answer")
        self.done.append(job)
        return self.name

    def revive(self, why: BoardError) -> None:
        self.revived += 1
        if not self.comes_back:
            raise BoardUnreachable(f"{why}; it did not come back")


@contextmanager
def crew_of(*boards: Board, said: list[str] | None = None) -> Iterator[Crew[Board]]:
    heard: list[str] = [] if said is None else said
    crew = Crew(boards, lambda why: heard.append(str(why)), revive=Board.revive)
    try:
        yield crew
    finally:
        crew.close()


def do_all(crew: Crew[Board], count: int = 4) -> list[str]:
    jobs = [crew.submit(lambda board, n=n: board.do(n), n) for n in range(count)]  # type: ignore[misc]
    return [job.result(20) for job in jobs]


@pytest.mark.parametrize("error", [BoardUnreachable, LeaseLost])
def test_a_board_that_comes_back_does_its_jobs_itself(error: type[BoardError]) -> None:
    one, two = Board("one"), Board("two", away=1, error=error)
    with crew_of(one, two) as crew:
        assert do_all(crew) == ["one", "two", "one", "two"]
        assert (one.done, two.done, two.revived) == ([0, 2], [1, 3], 1)
        assert crew.dropped == {}


def test_a_board_that_stays_away_is_dropped_with_the_whole_story() -> None:
    said: list[str] = []
    one, two = Board("one"), Board("two", away=1, comes_back=False)
    with crew_of(one, two, said=said) as crew:
        assert do_all(crew) == ["one"] * 4
    assert said == ["two: no answer; it did not come back"]
    assert sorted(one.done) == [0, 1, 2, 3]


def test_a_board_that_fails_again_after_it_came_back_is_dropped() -> None:
    one, two = Board("one"), Board("two", away=2)
    with crew_of(one, two) as crew:
        assert do_all(crew) == ["one"] * 4
    assert two.revived == 1


def test_a_program_that_fails_is_no_reason_to_cycle_the_power() -> None:
    class Crashed(MeasurementFailed):
        def __init__(self, message: str) -> None:
            super().__init__(message, "crash")

    one, two = Board("one"), Board("two", away=1, error=Crashed)
    with crew_of(one, two) as crew:
        assert do_all(crew) == ["one"] * 4
    assert two.revived == 0


def test_what_is_asked_of_the_first_board_brings_it_back_too() -> None:
    one = Board("one", away=1)
    with crew_of(one, Board("two")) as crew:
        assert crew.first(lambda board: board.do(0)) == "one"
    assert one.revived == 1
