"""The file that a board's answers are kept in: one JSON object a line, in the order they came.

Every line says `what` it is and of which `board` (its name in the inventory):

    board      kind, arch, fingerprint, capabilities, agent; again where they change
    program    artifact, structure, arch of a manifest that was sent
    measure    structure, anchor (its structure), plan, blocks, anchors, energy, receipt
    verify     artifact, report
    profile    structure, repeats, profile
    infer      artifact, inputs (digest), outputs (digest), tensors
    telemetry  conditions
    failure    of any other call: uploads, leases

Each but the first two has a `failure`, null where the call went well. No token is ever written.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from host.canonical import canonical_json
from host.errors import CallerError, StoreError

FORMAT = 1
RUNS = ("measure", "verify", "profile", "infer")
Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call failed: its status code, the agent's reason ('' of the wire), after how long."""

    call: str
    code: str
    reason: str
    message: str
    after_s: float


class Tape:
    """Appends what one board answers; several boards may share a file."""

    def __init__(self, path: Path, board: str) -> None:
        self._board = board
        self._path = path
        self._lock = threading.Lock()
        self._identity: Line = {}
        with self._guarded():
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_torn_line(path)

    def write(self, what: str, failure: Failure | None = None, **fields: Any) -> None:
        """Append one line; durable when this returns. Raises StoreError."""
        tail = {} if what in ("board", "program") else {"failure": failure and asdict(failure)}
        line = {"format": FORMAT, "what": what, "board": self._board, **fields, **tail}
        with self._guarded(), self._path.open("a") as file:
            file.write(canonical_json(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def identity(self, **fields: Any) -> None:
        """Note who the board is, unless that is known."""
        if fields != self._identity:
            self._identity = fields
            self.write("board", **fields)

    def _guarded(self) -> _Guard:
        return _Guard(self._lock, self._path)


@dataclass(frozen=True)
class _Guard:
    """One thread at a time; trouble with the file is the store's."""

    lock: threading.Lock
    path: Path

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.lock.release()
        if isinstance(error, OSError):
            raise StoreError(
                f"cannot write the recording {self.path}: {error.strerror}; free some space"
            ) from error


def read_tape(path: Path, board: str = "") -> list[Line]:
    """Return the lines of a board, of the only one where none is named; raises CallerError."""
    try:
        text = path.read_text()
    except OSError as e:
        raise CallerError(f"{path}: no such recording ({e.strerror})") from e
    # What ends without a newline was being written when its writer was killed.
    lines = [_line(path, number, raw) for number, raw in enumerate(text.split("\n")[:-1], 1)]
    boards = sorted({str(line["board"]) for line in lines})
    if not lines or (board and board not in boards):
        raise CallerError(f"{path} records no board {board}; it has: {', '.join(boards)}")
    if not board and len(boards) > 1:
        raise CallerError(
            f"{path} records {', '.join(boards)}: name one, replay:{path}#{boards[0]}"
        )
    return [line for line in lines if line["board"] == (board or boards[0])]


def identity_of(path: Path, lines: Sequence[Line]) -> Line:
    """Return who the board is, as last said; raises CallerError where it never said."""
    found = [line for line in lines if line["what"] == "board"]
    if not found:
        raise CallerError(f"{path}: the board never answered while it was recorded")
    return found[-1]


def failure_of(line: Line) -> Failure | None:
    """Return how the call of a line failed, if it did."""
    kept = line.get("failure")
    return Failure(**kept) if kept else None


def _line(path: Path, number: int, raw: str) -> Line:
    try:
        line: Line = json.loads(raw)
        if line["format"] != FORMAT:
            raise CallerError(f"{path}: recording format {line['format']}, this reads {FORMAT}")
        return {**line, "what": str(line["what"]), "board": str(line["board"])}
    except (ValueError, KeyError, TypeError) as e:
        if isinstance(e, CallerError):
            raise
        raise CallerError(f"{path}, line {number}: not a recording ({e!r})") from e


def _drop_torn_line(path: Path) -> None:
    """Cut off what a killed writer left unfinished, so that the next line begins as one."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)
