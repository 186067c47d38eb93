"""The SQLite store: raw measurements, counts, episodes of searches; statistics are never stored.

Several processes may write at once (WAL). Every row is durable when a method returns.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlite_utils

from host.boards.types import Look, Measurement
from host.canonical import canonical_json, digest
from host.errors import NO_ROOM, StoreError
from host.policy import Policy
from host.schema import MIGRATIONS, connect
from host.search.episode import Episode
from host.types import Evaluation

__all__ = ["MIGRATIONS", "Store", "connect"]

# SQLite's own limit on the values of a statement is larger.
ROWS_AT_ONCE = 500
KEEP_COUNTS = """INSERT INTO evaluation (setting, policy, counts) VALUES (?, ?, ?)
    ON CONFLICT (setting, policy) DO UPDATE SET counts = excluded.counts
    WHERE json_array_length(excluded.counts) > json_array_length(counts)"""
NOT_INVALID = "AND id NOT IN (SELECT measurement FROM invalid)"
ANCHORED = """INSERT INTO anchor (board, fingerprint, mark)
    VALUES (?, ?, (SELECT coalesce(max(rowid), 0) FROM measurement))
    ON CONFLICT (board, fingerprint) DO UPDATE SET mark = excluded.mark, reason = '',
    created_at = excluded.created_at"""
INVALIDATE = """INSERT OR IGNORE INTO invalid (measurement, reason)
    SELECT id, ?1 FROM measurement WHERE board = ?2 AND fingerprint = ?3 AND rowid >
    coalesce((SELECT mark FROM anchor WHERE board = ?2 AND fingerprint = ?3), 0)"""
QUARANTINE = """INSERT INTO anchor (board, fingerprint, mark, reason)
    VALUES (?2, ?3, (SELECT coalesce(max(rowid), 0) FROM measurement), ?1)
    ON CONFLICT (board, fingerprint) DO UPDATE SET mark = excluded.mark, reason = excluded.reason"""


LOOKS = """SELECT m.created_at, m.record, b.measurement FROM measurement m
    JOIN baseline b USING (structure, fingerprint, protocol, board)
    WHERE m.board = ? AND m.fingerprint = ? ORDER BY m.rowid DESC"""


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as e:
        # A quota that is used up is an "I/O error" to SQLite.
        full = any(word in str(e).lower() for word in ("full", "i/o error"))
        remedy = "free some space" if full else "close what else uses it, or restore a copy"
        raise StoreError(f"{path}: {e}; {remedy}, then resume") from e
    except OSError as e:
        remedy = "free some space" if e.errno in NO_ROOM else "choose a folder that may be written"
        raise StoreError(f"{path}: {e.strerror}; {remedy}, then resume") from e


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

    def _rows(self, table: str, where: str, key: Sequence[object], **more: Any) -> list[Any]:
        with self._guarded():
            return list(self._db[table].rows_where(where, key, **more))

    def add_measurement(self, measurement: Measurement) -> str:
        """Keep a raw measurement and return its name; the same one twice is kept once.

        One that was invalid and is measured again, to the nanosecond, is valid again.
        """
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
            self._db["measurement"].insert(row, replace=True)
            self._db.execute("DELETE FROM invalid WHERE measurement = ?", [name])
        return name

    def measurement(self, name: str) -> Measurement:
        """Return a measurement by name; raises StoreError for an unknown one."""
        rows = self._rows("measurement", "id = ?", [name])
        if not rows:
            raise StoreError(f"{self.path} holds no measurement {name}")
        return Measurement.from_dict(json.loads(rows[0]["record"]))

    def find(self, prefix: str) -> str:
        """Return the name of the only measurement that begins so; raises StoreError otherwise."""
        wanted = prefix if prefix.startswith("m-") else f"m-{prefix}"
        key = [len(wanted), wanted]
        rows = self._rows("measurement", "substr(id, 1, ?) = ?", key, select="id", limit=2)
        if len(rows) == 1:
            return str(rows[0]["id"])
        why = "holds no measurement" if not rows else "holds several measurements that begin with"
        raise StoreError(f"{self.path} {why} {wanted}")

    def measured_at(self, name: str) -> str:
        """Return when a measurement was kept, in UTC."""
        rows = self._rows("measurement", "id = ?", [name], select="created_at")
        return str(rows[0]["created_at"]) if rows else ""

    def boards(self, names: Sequence[str]) -> dict[str, str]:
        """Return the board of every measurement that is there, by name."""
        found: dict[str, str] = {}
        for start in range(0, len(names), ROWS_AT_ONCE):
            part = list(names[start : start + ROWS_AT_ONCE])
            where = f"id IN ({', '.join('?' for _ in part)})"
            rows = self._rows("measurement", where, part, select="id, board")
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
        where = f"structure = ? AND fingerprint = ? AND protocol = ? {NOT_INVALID}"
        key = [structure, fingerprint, digest(dict(protocol))]
        if board is not None:
            where, key = f"{where} AND board = ?", [*key, board]
        rows = self._rows("measurement", where, key, order_by="rowid desc")
        for row in rows:
            measurement = Measurement.from_dict(json.loads(row["record"]))
            if measurement.verdict != "invalid":
                return row["id"], measurement
        return None

    def baseline(
        self, structure: str, fingerprint: str, protocol: Mapping[str, Any], board: str
    ) -> Measurement | None:
        """Return what a board's anchor took at first, if anything."""
        where = "structure = ? AND fingerprint = ? AND protocol = ? AND board = ?"
        key = [structure, fingerprint, digest(dict(protocol)), board]
        rows = self._rows("baseline", where, key)
        return self.measurement(rows[0]["measurement"]) if rows else None

    def add_baseline(self, measurement: Measurement) -> None:
        """Keep what a board's anchor took at first; the first one stays."""
        row = {
            "structure": measurement.structure,
            "fingerprint": measurement.fingerprint_digest,
            "protocol": digest(measurement.to_dict()["protocol"]),
            "board": measurement.board,
            "measurement": self.add_measurement(measurement),
        }
        with self._guarded():
            self._db["baseline"].insert(row, ignore=True)

    def last_look(self, board: str, fingerprint: str) -> Look | None:
        """Return what a board's anchor took last beside its baseline, None where neither is."""
        with self._guarded():
            for at, record, baseline in self._db.execute(LOOKS, [board, fingerprint]):
                measured = Measurement.from_dict(json.loads(record))
                if measured.verdict != "invalid":
                    return Look(at, measured, self.measurement(baseline))
        return None

    def anchored(self, board: str, fingerprint: str) -> None:
        """Note that a board's anchor was good: what it measured so far stands."""
        with self._guarded():
            self._db.execute(ANCHORED, [board, fingerprint])

    def quarantine(self, board: str, fingerprint: str, reason: str) -> int:
        """Invalidate what a board measured since its last good anchor; return how many."""
        values = [reason, board, fingerprint]
        with self._guarded():
            count = self._db.execute(INVALIDATE, values).rowcount
            self._db.execute(QUARANTINE, values)
        return int(count)

    def invalid(self, names: Sequence[str]) -> dict[str, str]:
        """Return why measurements are invalid by now, those that are, by name."""
        found: dict[str, str] = {}
        for name in names:
            rows = self._rows("invalid", "measurement = ?", [name])
            found |= {row["measurement"]: row["reason"] for row in rows}
        return found

    def quarantined(self, board: str, fingerprint: str) -> str:
        """Return why a board is in quarantine, '' where it is not."""
        where = "board = ? AND fingerprint = ?"
        rows = self._rows("anchor", where, [board, fingerprint])
        return str(rows[0]["reason"]) if rows else ""

    def counts(self, setting: str, policy: str) -> tuple[float, ...]:
        """Return the correct answers of a policy, batch by batch, as far as they were counted.

        `setting` is the digest of all else that they depend on (host.evaluate).
        """
        key = [setting, policy]
        rows = self._rows("evaluation", "setting = ? AND policy = ?", key)
        return tuple(json.loads(rows[0]["counts"])) if rows else ()

    def keep_counts(self, setting: str, policy: str, counts: Sequence[float]) -> None:
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

    def drop_episodes(self, run: str, first: int) -> None:
        """Forget the episodes of a run from a number on."""
        with self._guarded():
            self._db["episode"].delete_where("run = ? AND number >= ?", [run, first])

    def episodes(self, run: str) -> list[Episode]:
        """Return the episodes of a run in order."""
        rows = self._rows("episode", "run = ?", [run], order_by="number")
        return [
            Episode(
                row["number"],
                Policy.from_dict(json.loads(row["policy"])),
                Evaluation.from_dict(json.loads(row["evaluation"])),
                row["reward"],
            )
            for row in rows
        ]
