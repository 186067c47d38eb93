"""What a dataset may draw: a space of programs, each named by a JSON value, its spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from host.artifact import Artifact

# JSON: what a program is drawn by, and drawn again from.
Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel call of a program: its kind, and what it executes and moves."""

    layer: str
    kind: str
    macs: int
    ops: int
    bytes_read: int
    bytes_written: int
    weight_bytes: int
    weight_bits: int
    act_bits: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Row:
        """Read a row of a manifest's kernel table."""
        return cls(**{name: row[name] for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Program:
    """A planned program: its structure's digest and its kernel table; nothing is compiled yet."""

    structure: str
    rows: tuple[Row, ...]


class ProgramSpace(Protocol):
    """A family of programs."""

    def draw(self, rng: np.random.Generator) -> Spec:
        """Return a spec at random; some may be alike."""
        ...

    def grid(self) -> Iterator[Spec]:
        """Yield specs at regular distances, in an order that any first part of spreads evenly."""
        ...

    def columns(self, spec: Spec) -> dict[str, Any]:
        """Return a spec as the cells of a table: numbers and strings."""
        ...

    def plan(self, spec: Spec) -> Program:
        """Return the program of a spec."""
        ...

    def build(self, spec: Spec, folder: Path) -> Artifact:
        """Write the artifact of a spec, for latency alone."""
        ...
