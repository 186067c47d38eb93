"""What the authority has issued and taken back: one JSON file, a row for each certificate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from firmware_setup.ca.files import write
from host.errors import StoreError

Kind = Literal["board", "person"]
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One certificate; times are ISO 8601 in UTC, `revoked` is "" while it is good."""

    name: str
    kind: Kind
    role: str
    hosts: tuple[str, ...]
    serial: str
    fingerprint: str
    issued: str
    expires: str
    revoked: str = ""

    def live(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return not self.revoked and datetime.fromisoformat(self.expires) > now


def read_ledger(path: Path) -> list[Entry]:
    """Return all rows, oldest first; raises StoreError for a file that is none of ours."""
    try:
        data = json.loads(path.read_text())
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}, this version reads {FORMAT}")
        return [_entry(row) for row in data["certificates"]]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise StoreError(f"{path}: cannot be read as a ledger of certificates ({e})") from e


def write_ledger(path: Path, entries: Sequence[Entry]) -> None:
    """Replace the rows."""
    data = {"format": FORMAT, "certificates": [asdict(entry) for entry in entries]}
    write(path, (json.dumps(data, indent=1) + "\n").encode())


def _entry(row: dict[str, Any]) -> Entry:
    known = {field.name for field in fields(Entry)}
    values: dict[str, Any] = {name: row[name] for name in known}
    return Entry(**{**values, "hosts": tuple(values["hosts"])})
