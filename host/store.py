"""The SQLite store: raw measurements, counts, episodes of searches; statistics are never stored.

Several processes may write at once (WAL). Every row is durable when a method returns.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlite_utils

from host.boards.types import Measurement
from host.canonical import canonical_json, digest
from host.errors import StoreError
from host.policy import Policy
from host.search.episode import Episode
from host.types import Evaluation

BUSY_TIMEOUT_MS = 30_000
# SQLite's own limit on the values of a statement is larger.
ROWS_AT_ONCE = 500
MIGRATIONS = (
    """CREATE TABLE measurement (
        id TEXT PRIMARY KEY, structure TEXT NOT NULL, fingerprint TEXT NOT NULL,
        protocol TEXT NOT NULL, artifact TEXT NOT NULL, board TEXT NOT NULL,
        created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
        record TEXT NOT NULL) STRICT""",
    "CREATE INDEX measurement_key ON measurement (structure, fingerprint, protocol)",
    """CREATE TABLE episode (
        run TEXT NOT NULL, number INTEGER NOT NULL, policy TEXT NOT NULL,
        evaluation TEXT NOT NULL, reward REAL NOT NULL, PRIMARY KEY (run, number)) STRICT""",
    """CREATE TABLE evaluation (
        setting TEXT NOT NULL, policy TEXT NOT NULL, counts TEXT NOT NULL,
        created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
        PRIMARY KEY (setting, policy)) STRICT""",
    """CREATE TABLE sample (
        number INTEGER PRIMARY KEY, spec TEXT NOT NULL, structure TEXT NOT NULL UNIQUE) STRICT""",
    """CREATE TABLE observation (
        number INTEGER NOT NULL, place INTEGER NOT NULL, measurement TEXT, profile TEXT,
        kernels TEXT, error TEXT, created_at TEXT NOT NULL
            DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
        PRIMARY KEY (number, place)) STRICT""",
)
KEEP_COUNTS = """INSERT INTO evaluation (setting, policy, counts) VALUES (?, ?, ?)
    ON CONFLICT (setting, policy) DO UPDATE SET counts = excluded.counts
    WHERE json_array_length(excluded.counts) > json_array_length(counts)"""


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as e:
        full = "full" in str(e).lower()
        remedy = "free some space" if full else "close what else uses it, or restore a copy"
        raise StoreError(f"{path}: {e}; {remedy}, then resume") from e


def connect(path: Path) -> sqlite3.Connection:
    """Open a database and bring it to the newest version, one migration a transaction."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    _use_write_ahead_log(db)
    db.execute("PRAGMA synchronous = FULL")
    while True:
        db.execute("BEGIN IMMEDIATE")
        (have,) = db.execute("PRAGMA user_version").fetchone()
        if have > len(MIGRATIONS):
            db.execute("ROLLBACK")
            raise StoreError(f"{path} was written by a newer version; update hil-lab")
        if have == len(MIGRATIONS):
            db.execute("ROLLBACK")
            return db
        db.execute(MIGRATIONS[have])
        db.execute(f"PRAGMA user_version = {have + 1}")
        db.execute("COMMIT")


def _use_write_ahead_log(db: sqlite3.Connection) -> None:
    # SQLite does not wait (busy_timeout) for the lock that switching a new file takes; the mode
    # is the file's for ever after, so asking again is cheap.
    deadline_s = time.monotonic() + BUSY_TIMEOUT_MS / 1e3
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as e:
            if "locked" not in str(e) or time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)


class Store:
    """One database of a lab; open it per process, and share it between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        with _mapped(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite_utils.Database(connect(path))

    def close(self) -> None:
        """Close the connection."""
        self._db.conn.close()

    @contextmanager
    def tables(self) -> Iterator[sqlite_utils.Database]:
        """Yield the database to what keeps tables of its own in it; one thread at a time."""
        with self._guarded():
            yield self._db

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Let one thread in at a time: boards that measure side by side share the connection."""
        with self._lock, _mapped(self.path):
            yield

    def add_measurement(self, measurement: Measurement) -> str:
        """Keep a raw measurement and return its name; the same one twice is kept once."""
        record = measurement.to_dict()
        name = f"m-{measurement.identity[:12]}"
        row = {
            "id": name,
            "structure": measurement.structure,
            "fingerprint": measurement.fingerprint_digest,
            "protocol": digest(record["protocol"]),
            "artifact": measurement.artifact,
            "board": measurement.board,
            "record": canonical_json(record),
        }
        with self._guarded():
            self._db["measurement"].insert(row, ignore=True)
        return name

    def measurement(self, name: str) -> Measurement:
        """Return a measurement by name; raises StoreError for an unknown one."""
        with self._guarded():
            rows = list(self._db["measurement"].rows_where("id = ?", [name]))
        if not rows:
            raise StoreError(f"{self.path} holds no measurement {name}")
        return Measurement.from_dict(json.loads(rows[0]["record"]))

    def boards(self, names: Sequence[str]) -> dict[str, str]:
        """Return the board of every measurement that is there, by name."""
        found: dict[str, str] = {}
        for start in range(0, len(names), ROWS_AT_ONCE):
            part = list(names[start : start + ROWS_AT_ONCE])
            where = f"id IN ({', '.join('?' for _ in part)})"
            with self._guarded():
                rows = list(self._db["measurement"].rows_where(where, part, select="id, board"))
            found |= {row["id"]: row["board"] for row in rows}
        return found

    def cached(
        self,
        structure: str,
        fingerprint: str,
        protocol: Mapping[str, Any],
        board: str | None = None,
    ) -> tuple[str, Measurement] | None:
        """Return the newest measurement of a program on such a board that is not invalid.

        On any board of the fingerprint, or on one by its name.
        """
        where = "structure = ? AND fingerprint = ? AND protocol = ?"
        key = [structure, fingerprint, digest(dict(protocol))]
        if board is not None:
            where, key = f"{where} AND board = ?", [*key, board]
        with self._guarded():
            rows = list(self._db["measurement"].rows_where(where, key, order_by="rowid desc"))
        for row in rows:
            measurement = Measurement.from_dict(json.loads(row["record"]))
            if measurement.verdict != "invalid":
                return row["id"], measurement
        return None

    def counts(self, setting: str, policy: str) -> tuple[int, ...]:
        """Return the correct answers of a policy, batch by batch, as far as they were counted.

        `setting` is the digest of all else that they depend on (host.evaluate).
        """
        key = [setting, policy]
        with self._guarded():
            rows = list(self._db["evaluation"].rows_where("setting = ? AND policy = ?", key))
        return tuple(json.loads(rows[0]["counts"])) if rows else ()

    def keep_counts(self, setting: str, policy: str, counts: Sequence[int]) -> None:
        """Keep the correct answers of a policy; fewer batches never replace more."""
        values = [setting, policy, canonical_json(list(counts))]
        with self._guarded():
            self._db.execute(KEEP_COUNTS, values)

    def add_episode(self, run: str, episode: Episode) -> None:
        """Keep an episode of a run; the same number twice is an error."""
        row = {
            "run": run,
            "number": episode.number,
            "policy": canonical_json(episode.policy.to_dict()),
            "evaluation": canonical_json(episode.evaluation.to_dict()),
            "reward": episode.reward,
        }
        with self._guarded():
            self._db["episode"].insert(row)

    def episodes(self, run: str) -> list[Episode]:
        """Return the episodes of a run in order."""
        with self._guarded():
            rows = list(self._db["episode"].rows_where("run = ?", [run], order_by="number"))
        return [
            Episode(
                row["number"],
                Policy.from_dict(json.loads(row["policy"])),
                Evaluation.from_dict(json.loads(row["evaluation"])),
                row["reward"],
            )
            for row in rows
        ]
