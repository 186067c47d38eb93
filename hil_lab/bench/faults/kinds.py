"""The faults by name: what each does to a lab, and how it is mended; judges nothing.

A fault strikes while a search runs. One that leaves the host without its board must be noticed;
others must pass without a trace in the result.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from hil_lab.bench.faults.lab import STORE, Lab
from host.errors import WorldError

DEAD_S = 15.0  # a dead peer that nobody noticed by then is mended all the same
BRIEF_S = 2.0
LOCK_S = 3.0
DAY_S, HOUR_S = 86_400, 3600
HOST_BYTES = 4096
SLOW_DELAY_S, SLOW_BYTES_PER_S = 0.01, 400_000.0


def nothing(lab: Lab) -> None:
    """Do nothing."""


def between(lab: Lab) -> None:
    """Wait for some measurements."""
    lab.until_measured(lab.rng.randint(1, 3))


def sending(lab: Lab) -> None:
    """Wait for an upload, on a slow link, so that it lasts."""
    lab.until_measured(1)
    lab.link.bytes_per_s = SLOW_BYTES_PER_S / 4
    lab.until_sending()
    lab.link.bytes_per_s = 0.0


def at_once(lab: Lab) -> None:
    """Wait for nothing."""


@dataclass(frozen=True)
class Fault:
    """`hold_s` is how long it lasts; a `dead` peer is mended as soon as the host has noticed."""

    name: str
    inject: Callable[[Lab], None]
    mend: Callable[[Lab], None] = nothing
    when: Callable[[Lab], None] = between
    hold_s: float = 0.0
    dead: bool = False
    corrupt: int = 0


def _kill(lab: Lab) -> None:
    lab.board.kill()


def _power_cut(lab: Lab) -> None:
    lab.notes += [f"emptied {name}" for name in lab.board.power_cut()]


def _start(lab: Lab) -> None:
    lab.board.start()


def _reset(lab: Lab) -> None:
    """The board comes back at once and knows nothing; the old connection is never answered."""
    lab.link.forget()
    lab.board.reset()


def _freeze(lab: Lab) -> None:
    lab.board.freeze()


def _thaw(lab: Lab) -> None:
    lab.board.thaw()


def _down(lab: Lab) -> None:
    lab.link.down()


def _up(lab: Lab) -> None:
    lab.link.up()


def _cut(lab: Lab) -> None:
    lab.link.cut()


def _slow(lab: Lab) -> None:
    lab.link.delay_s, lab.link.bytes_per_s = SLOW_DELAY_S, SLOW_BYTES_PER_S


def _fill_board(lab: Lab) -> None:
    lab.board.fill_disk()


def _free_board(lab: Lab) -> None:
    lab.board.free_disk()


def _fill_host(lab: Lab) -> None:
    if lab.host.runs:
        lab.host.limit_files(HOST_BYTES)


def _rot(lab: Lab) -> None:
    """Flip a bit of everything that the board keeps; a new start of the search uses it again."""
    lab.host.kill()
    lab.board.rot()


def _jump(lab: Lab) -> None:
    """Set both wall clocks off by a day, in different directions."""
    lab.board.jump(lab.rng.choice((-DAY_S, DAY_S)))
    lab.host.jump(lab.rng.choice((-HOUR_S, HOUR_S)))


def _kill_host(lab: Lab) -> None:
    lab.host.kill()


def _rival(lab: Lab) -> None:
    """Let another host search on the same board at the same time."""
    lab.add_rival()


def _lock(lab: Lab) -> None:
    """Hold the store's write lock for a while."""
    path = lab.host.folder / STORE
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        db.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as e:
        raise WorldError(f"the database could not be locked: {e}") from e

    def free() -> None:
        time.sleep(LOCK_S)
        db.execute("ROLLBACK")
        db.close()

    threading.Thread(target=free, daemon=True).start()


FAULTS: tuple[Fault, ...] = (
    Fault("agent killed", _kill, _start, hold_s=DEAD_S, dead=True),
    Fault("agent killed in an upload", _kill, _start, sending, DEAD_S, dead=True),
    Fault("power cut", _power_cut, _start, hold_s=DEAD_S, dead=True),
    Fault("power cut in an upload", _power_cut, _start, sending, DEAD_S, dead=True),
    Fault("reset in a call", _reset, nothing, sending, DEAD_S, dead=True),
    Fault("frozen board", _freeze, _thaw, hold_s=DEAD_S, dead=True),
    Fault("frozen briefly", _freeze, _thaw, hold_s=BRIEF_S),
    Fault("link down", _down, _up, hold_s=DEAD_S, dead=True),
    Fault("link down briefly", _down, _up, hold_s=BRIEF_S),
    Fault("connections reset", _cut, nothing, sending),
    Fault("slow link", _slow, nothing, at_once),
    Fault("disk full on the board", _fill_board, _free_board, hold_s=DEAD_S),
    Fault("disk full on the host", _fill_host),
    Fault("corrupt upload", nothing, nothing, at_once, corrupt=2),
    Fault("rotten blobs", _rot),
    Fault("clock jump", _jump),
    Fault("lease holder killed", _kill_host),
    Fault("two hosts", _rival, nothing, at_once),
    Fault("database locked", _lock),
)
