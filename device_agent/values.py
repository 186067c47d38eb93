"""The values inside the agent that never travel: jobs, limits and what a board is; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_DEADLINE_S = 120.0
DEFAULT_MEMORY_LIMIT_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run counts as hung or as out of memory."""

    deadline_s: float = DEFAULT_DEADLINE_S
    memory_bytes: int = DEFAULT_MEMORY_LIMIT_BYTES


@dataclass(frozen=True, slots=True)
class Job:
    """One program to run: its manifest, the folder of its blobs, and its limits.

    `synthetic` fills the weights instead of reading them; latency does not depend on values.
    """

    manifest: Mapping[str, Any]
    blobs: Path
    synthetic: bool = False
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Identity:
    """What a board is; `fingerprint` is what makes two boards' numbers comparable."""

    name: str
    kind: str
    arch: str
    fingerprint: Mapping[str, str]
    capabilities: tuple[str, ...] = ()
