"""Boards that work side by side, a thread each; a board that fails hands its job on to the next.

Which board does what depends on the place of a job alone, never on who is faster: what is done
again asks the same boards for the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from host.errors import BoardDrifted, BoardError, BoardUnreachable, LeaseLost

B = TypeVar("B")
T = TypeVar("T")
# Is told why a board is out.
OnDrop = Callable[[BoardError], None]
# Brings a board back that went away, or raises why it cannot.
Revive = Callable[[B, BoardError], None]


def ignore(why: BoardError) -> None:
    """Do nothing."""


def gone(board: object, why: BoardError) -> None:
    """Take a board that went away to be gone."""
    raise why


def persistently(job: Callable[[B], T], board: B, revive: Revive[B]) -> T:
    """Do a job on a board; once more where the board went away and came back."""
    try:
        return job(board)
    except (BoardUnreachable, LeaseLost) as e:
        revive(board, e)
        return job(board)


class Crew(Generic[B]):
    """Boards, or what asks them; `dropped` says by place which are out and why.

    Crews of the same boards share it.
    """

    def __init__(
        self,
        members: Sequence[B],
        on_drop: OnDrop = ignore,
        dropped: dict[int, BoardError] | None = None,
        revive: Revive[B] = gone,
    ) -> None:
        if not members:
            raise ValueError("work needs at least one board")
        self.members = tuple(members)
        self.dropped = {} if dropped is None else dropped
        self._on_drop = on_drop
        self._revive = revive
        self._workers = [ThreadPoolExecutor(1) for _ in self.members]

    @property
    def alive(self) -> list[int]:
        """The places of the boards that are left."""
        return [place for place in range(len(self.members)) if place not in self.dropped]

    def submit(self, job: Callable[[B], T], place: int) -> Future[T]:
        """Let the board of a place do a job, or the next one that is left."""
        done: Future[T] = Future()
        self._send(job, place % len(self.members), done)
        return done

    def first(self, job: Callable[[B], T]) -> T:
        """Do a job here and now, on the first board that is left and does not fail it."""
        for place in self.alive:
            try:
                return self._done(job, place)
            except BoardError as e:
                self._drop(place, e)
        raise self._none_left()

    def close(self) -> None:
        """Forget what waits, and wait for what runs."""
        for worker in self._workers:
            worker.shutdown(wait=True, cancel_futures=True)

    def _send(self, job: Callable[[B], T], place: int, done: Future[T]) -> None:
        left = sorted(self.alive, key=lambda board: (board < place, board))
        if left:
            self._workers[left[0]].submit(self._work, job, left[0], done)
        else:
            done.set_exception(self._none_left())

    def _work(self, job: Callable[[B], T], place: int, done: Future[T]) -> None:
        try:
            if place in self.dropped:
                self._send(job, place, done)
            else:
                done.set_result(self._done(job, place))
        except BoardError as e:
            self._drop(place, e)
            if isinstance(e, BoardDrifted) and e.invalidated:
                # Somebody was told numbers that no longer count, and must not go on with them.
                done.set_exception(e)
            else:
                self._send(job, place, done)
        except Exception as e:
            done.set_exception(e)

    def _done(self, job: Callable[[B], T], place: int) -> T:
        return persistently(job, self.members[place], self._revive)

    def _drop(self, place: int, why: BoardError) -> None:
        self.dropped[place] = why
        if self.alive:
            self._on_drop(why)

    def _none_left(self) -> BoardError:
        """Return why there is no board; where there is only one, that is its own reason."""
        if len(self.members) == 1:
            return self.dropped[0]
        reasons = "; ".join(map(str, self.dropped.values()))
        return BoardUnreachable(f"no board is left: {reasons}")
