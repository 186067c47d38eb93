"""Who waits for the board, first come, first served, and about how long; grants nothing.

A ticket is the nonce of an acquire. Whoever stops asking loses its place: hosts die too.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from device_agent.durable import write_durably
from device_agent.errors import Busy

PATIENCE_S = 10.0  # a host asks twice a second, and its retries span less
HISTORY = 20
MOST = 1000
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiter:
    """One that waits, and when it asked last, in seconds of the lease clock."""

    ticket: str
    holder: str
    asked_s: float


class Queue:
    """Waiters in the order in which they came; the caller holds the lock and tells the time."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._waiters: list[Waiter] = []

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def first(self) -> Waiter | None:
        """Who is next."""
        return self._waiters[0] if self._waiters else None

    def ask(self, ticket: str, holder: str, now_s: float) -> int:
        """Keep a place or take the last one; return it, from 1. Raises Busy where it is full."""
        for at, waiter in enumerate(self._waiters):
            if waiter.ticket == ticket:
                self._waiters[at] = replace(waiter, asked_s=now_s)
                return at + 1
        if len(self._waiters) >= MOST:
            raise Busy(f"{MOST} wait for the board already")
        self._waiters.append(Waiter(ticket, holder, now_s))
        return len(self._waiters)

    def leave(self, ticket: str) -> None:
        """Give a place up."""
        self._waiters = [waiter for waiter in self._waiters if waiter.ticket != ticket]

    def forget_silent(self, now_s: float) -> None:
        """Drop whoever has not asked for too long."""
        since_s = now_s - self._patience_s
        self._waiters = [waiter for waiter in self._waiters if waiter.asked_s > since_s]


class History:
    """How long the last leases lasted, in seconds; kept over restarts where it has a file."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lasted_s: deque[float] = deque(_kept(file) if file else (), maxlen=HISTORY)

    def add(self, lasted_s: float) -> None:
        """Note a lease that ended."""
        self._lasted_s.append(lasted_s)
        if self._file:
            lines = "".join(f"{each:.1f}\n" for each in self._lasted_s)
            try:
                write_durably(self._file, lines.encode())
            except OSError as e:  # an estimate is not worth a lease that cannot be given back
                _LOG.warning("cannot keep how long leases lasted: %s", e)

    def wait_s(self, held_s: float | None, ahead: int) -> float | None:
        """Return about how long one waits behind a lease held so long, and behind others.

        None where no lease has ended here yet; `held_s` is None where the board is free.
        """
        if not self._lasted_s:
            return None
        rest_s = 0.0 if held_s is None else remaining_s(self._lasted_s, held_s)
        return rest_s + ahead * median(self._lasted_s)


def _kept(file: Path) -> list[float]:
    """Return the seconds of a file, a line each; nothing where it is missing or spoiled."""
    try:
        found = [float(line) for line in file.read_text().splitlines()]
    except (OSError, ValueError):
        return []
    return [lasted for lasted in found if 0.0 <= lasted < math.inf]


def remaining_s(lasted_s: Sequence[float], held_s: float) -> float:
    """Return how much longer a lease lasts: as those that had lasted as long already.

    One that outlasts all of them is taken to be half over.
    """
    longer = [lasted for lasted in lasted_s if lasted > held_s]
    return median(longer) - held_s if longer else held_s


def place_text(place: int, wait_s: float | None) -> str:
    """Say a place and an estimate: "2nd in the queue, about 4 min"."""
    about = "" if wait_s is None else f", about {duration(wait_s)}"
    return f"{ordinal(place)} in the queue{about}"


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, 11th."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


def duration(seconds: float) -> str:
    """Return seconds in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
