"""What a host does while a board is taken, and when it goes away: says so, cycles, waits.

A board that restarts forgets its leases, so whoever held it needs a new one (session.revive).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from host.boards.types import BoardInfo
from host.errors import BoardBusy, BoardError, BoardUnreachable, CallerError, VersionMismatch
from host.supply import Supply

POLL_S = 1.0
# While a place in the queue stays the same, so often is it said again.
REMIND_S = 60.0


def silent(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True)
class Care:
    """Whom to tell, the board's switch, and how long to wait, in seconds.

    `back_s` is for a board that restarts by itself (a watchdog, a new kernel), `boot_s` for one
    whose power came back, `wait_s` for those who hold it or wait before us.
    """

    say: Callable[[str], None] = silent
    supply: Supply | None = None
    back_s: float = 60.0
    boot_s: float = 180.0
    wait_s: float = 600.0
    sleep: Callable[[float], None] = time.sleep
    clock_s: Callable[[], float] = time.monotonic


class Waits:
    """Tells of a wait when it begins, when our place changes, and once a minute."""

    def __init__(self, care: Care) -> None:
        self._care = care
        self._place: int | None = None
        self._told_s = 0.0

    def refused(self, busy: BoardBusy) -> None:
        """Hear that the board is still taken."""
        now_s = self._care.clock_s()
        if busy.place == self._place and now_s - self._told_s < REMIND_S:
            return
        self._place, self._told_s = busy.place, now_s
        self._care.say(f"wait     {busy}")


def awaited(describe: Callable[[], BoardInfo], why: BoardError, care: Care) -> BoardInfo:
    """Return what a board says of itself once it answers; its power is cycled once.

    Raises BoardUnreachable with the whole story where it stays away.
    """
    try:
        return describe()
    except BoardUnreachable:
        pass
    if care.supply is None:
        care.say(f"wait     {why}; up to {care.back_s:.0f} s for it to come back")
        return _polled(describe, f"{why}; it did not come back", care.back_s, care)
    care.say(f"power    {why}; switching it off and on")
    try:
        care.supply.cycle(care.sleep)
    except (BoardError, CallerError) as e:
        raise BoardUnreachable(f"{why}; its power could not be switched: {e}") from e
    return _polled(describe, f"{why}; its power was cycled, and it is silent", care.boot_s, care)


def _polled(describe: Callable[[], BoardInfo], story: str, seconds: float, care: Care) -> BoardInfo:
    until_s = care.clock_s() + seconds
    while True:
        try:
            return describe()
        except BoardUnreachable as e:
            if care.clock_s() >= until_s:
                raise BoardUnreachable(f"{story} for {seconds:.0f} s") from e
            care.sleep(POLL_S)


def check_same(was: BoardInfo, now: BoardInfo) -> None:
    """Raise VersionMismatch where another board came back: its numbers would not mix."""
    if (was.name, was.fingerprint_digest, was.runtime_abi) != (
        now.name,
        now.fingerprint_digest,
        now.runtime_abi,
    ):
        changed = [k for k in now.fingerprint if now.fingerprint[k] != was.fingerprint.get(k)]
        raise VersionMismatch(
            f"{was.name} came back as another board ({', '.join(changed) or now.name}): its "
            "numbers would not be of one board"
        )
