"""Names of boards that are recorded, `record:FILE@BOARD`, or played, `replay:FILE#BOARD`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from host.boards.tape import Tape
from host.errors import CallerError

RECORD, REPLAY = "record:", "replay:"


def recording(names: Sequence[str], file: str | None) -> list[str]:
    """Return the names of boards whose answers are kept in a file, as they are without one."""
    return [f"{RECORD}{file}@{name}" for name in names] if file else list(names)


def recorded(name: str) -> tuple[str, str]:
    """Return file and board of `record:FILE@BOARD`; of any other board, no file."""
    if not name.startswith(RECORD):
        return "", name
    file, at, board = name.removeprefix(RECORD).partition("@")
    if not (file and at and board):
        raise CallerError(f"{name}: write record:FILE@BOARD")
    return file, board


def tape_of(file: str, board: str) -> Tape | None:
    """Return what keeps the answers of a board in a file, None without one."""
    return Tape(Path(file), board) if file else None
