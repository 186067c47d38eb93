"""The store's tables, as migrations in order, and the connection that applies them; no queries."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from host.errors import StoreError

BUSY_TIMEOUT_MS = 30_000
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
    """CREATE TABLE invalid (
        measurement TEXT PRIMARY KEY, reason TEXT NOT NULL,
        created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))) STRICT""",
    """CREATE TABLE baseline (
        structure TEXT NOT NULL, fingerprint TEXT NOT NULL, protocol TEXT NOT NULL,
        board TEXT NOT NULL, measurement TEXT NOT NULL,
        PRIMARY KEY (structure, fingerprint, protocol, board)) STRICT""",
    # What was measured up to `mark` (a rowid) is good; a reason means quarantine.
    """CREATE TABLE anchor (
        board TEXT NOT NULL, fingerprint TEXT NOT NULL, mark INTEGER NOT NULL,
        reason TEXT NOT NULL DEFAULT '',
        created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
        PRIMARY KEY (board, fingerprint)) STRICT""",
)


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
