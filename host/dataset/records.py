"""What a dataset has drawn and measured, in the tables `sample` and `observation` of a store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from host.canonical import canonical_json
from host.dataset.spaces import Row, Spec
from host.store import Store
from protos.convert import from_json
from protos.values import Profile


@dataclass(frozen=True, slots=True)
class Sample:
    """A drawn program: its number, from 0, and its structure's digest."""

    number: int
    spec: Spec
    structure: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What came of measuring a sample: a measurement by name and a profile, or an error.

    `place` tells apart the boards of a dataset whose samples are measured on all of them.
    """

    number: int
    place: int
    rows: tuple[Row, ...]
    measurement: str | None = None
    profile: Profile | None = None
    error: str | None = None
    created_at: str = ""


# A measurement that turned out to be of a board that drifted is none, and is taken again.
COUNTS = "(measurement IS NULL OR measurement NOT IN (SELECT measurement FROM invalid))"


class Records:
    """The samples and observations of one dataset; what counts is never written twice."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add_samples(self, samples: Sequence[Sample]) -> None:
        """Keep drawn samples, all or none of them."""
        rows = [{**asdict(s), "spec": canonical_json(dict(s.spec))} for s in samples]
        with self.store.tables() as db, db.conn:
            db["sample"].insert_all(rows)

    def samples(self) -> list[Sample]:
        """Return all samples by number."""
        with self.store.tables() as db:
            rows = list(db["sample"].rows_where(order_by="number"))
        return [Sample(r["number"], json.loads(r["spec"]), r["structure"]) for r in rows]

    def add(self, observation: Observation) -> None:
        """Keep an observation, in the place of one that does not count any more."""
        profile = observation.profile
        row = {
            "number": observation.number,
            "place": observation.place,
            "measurement": observation.measurement,
            "profile": None if profile is None else canonical_json(asdict(profile)),
            "kernels": canonical_json([asdict(r) for r in observation.rows]),
            "error": observation.error,
        }
        with self.store.tables() as db:
            db["observation"].insert(row, replace=True)

    def done(self) -> set[tuple[int, int]]:
        """Return the number and place of what was observed and counts."""
        with self.store.tables() as db:
            rows = list(db["observation"].rows_where(COUNTS, select="number, place"))
        return {(row["number"], row["place"]) for row in rows}

    def observations(self) -> list[Observation]:
        """Return all observations that count, by number and place."""
        with self.store.tables() as db:
            rows = list(db["observation"].rows_where(COUNTS, order_by="number, place"))
        return [_observation(row) for row in rows]


def _observation(row: Mapping[str, Any]) -> Observation:
    profile = row["profile"]
    return Observation(
        row["number"],
        row["place"],
        tuple(Row(**kernel) for kernel in json.loads(row["kernels"])),
        row["measurement"],
        None if profile is None else from_json(Profile, json.loads(profile)),
        row["error"],
        row["created_at"],
    )
