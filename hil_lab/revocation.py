"""Tells boards which certificates were revoked, all at once, and says of each whether it heard."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from hil_lab.inventory import BoardEntry, default_inventory, select
from host.errors import BoardError, CallerError

DEADLINE_S = 5.0
AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Arrival:
    """Whether a board heard; `refused` is how many certificates it refuses, `why` why it did not.

    A board in plain text has nothing to hear.
    """

    board: str
    arrived: bool
    refused: int = 0
    why: str = ""

    def text(self) -> str:
        """Return one line for a person."""
        if not self.arrived:
            return f"FAILED   {self.board}: {self.why}; hil-lab ca send --board {self.board} again"
        return f"sent     {self.board}: {self.why or f'refuses {self.refused} certificates'}"


def send(revoked: Sequence[str], boards: Sequence[str] = ()) -> list[Arrival]:
    """Send fingerprints to boards by name or filter, to all of the inventory where none is named.

    Raises CallerError where there is no such board.
    """
    inventory = default_inventory()
    named = {entry.name: entry for board in boards for entry in select(inventory, board)}
    entries = list((named or inventory).values())
    if not entries:
        raise CallerError("boards.toml lists no board to tell; run this where it lies")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(partial(_told, revoked), entries))


def _told(revoked: Sequence[str], entry: BoardEntry) -> Arrival:
    if entry.tls is None:
        return Arrival(entry.name, True, why="plain text, nobody shows it a certificate")
    try:
        with entry.client(DEADLINE_S) as client:
            return Arrival(entry.name, True, client.put_revoked(revoked))
    except (BoardError, CallerError) as e:
        return Arrival(entry.name, False, why=str(e))
