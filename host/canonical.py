"""Identity of values: a digest of their canonical JSON; never hash(), repr() or a pickle."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Return the sha256 hex digest of a JSON-able value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def seed_of_name(name: str) -> int:
    """Return the seed that a name gives, the same in every process: 64 bits of its sha256."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
