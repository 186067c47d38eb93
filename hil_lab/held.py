"""One board that a command holds, brought back where it restarts in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from hil_lab.console import Reporter, RichReporter, Silent
from hil_lab.inventory import open_board, supply_of
from host.boards.care import Care
from host.boards.session import BoardSession
from host.boards.types import BoardInfo
from host.crew import persistently

LEASE_WAIT_S = 600.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Held:
    """A board under a lease of ours."""

    session: BoardSession

    @property
    def info(self) -> BoardInfo:
        """What the board says that it is."""
        return self.session.info

    def do(self, job: Callable[[BoardSession], T]) -> T:
        """Do a job; once more, from its beginning, where the board went away and came back."""
        return persistently(job, self.session, BoardSession.revive)


@contextmanager
def held(name: str, holder: str, *, silent: bool = False) -> Iterator[Held]:
    """Hold a board by name; raises BoardBusy where others do: a person decides whether to wait.

    What is done to bring it back is told on standard error, unless `silent`.
    """
    care = care_of(name, Silent() if silent else RichReporter())
    with open_board(name) as client, client.lease(holder, care=care) as session:
        yield Held(session)


def care_of(name: str, reporter: Reporter) -> Care:
    """Return what is done for a board that is taken or goes away."""
    return Care(reporter.say, supply_of(name), wait_s=LEASE_WAIT_S)
