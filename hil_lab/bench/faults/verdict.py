"""What became of a search that faults struck: held against one that was left alone."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from hil_lab.bench.faults.lab import Host
from hil_lab.simboard.board import KIND
from host.boards.types import Measurement

VALID = """SELECT id, structure, record FROM measurement
    WHERE id NOT IN (SELECT measurement FROM invalid)"""
# The keys of an episode that no board decides.
CHOSEN = ("number", "policy", "accuracy")


@dataclass(frozen=True)
class Kept:
    """What a search left: its episodes, the best policy, and its valid measurements by name."""

    best: str
    episodes: tuple[dict[str, Any], ...]
    recorded: int
    structures: dict[str, str]
    latency_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """Whether a search ended the same, and measurements that are missing, double or wrong."""

    same_policy: bool
    lost: int
    twice: int
    stale: int


def kept(host: Host) -> Kept | None:
    """Return what a search left; None where it did not end."""
    done = host.done()
    if done is None:
        return None
    structures, latency = {}, {}
    for name, structure, record in host.rows(VALID):
        measurement = Measurement.from_dict(json.loads(record))
        if measurement.verdict != "invalid":
            structures[name], latency[name] = structure, measurement.latency_ms.median
    (recorded,) = host.rows("SELECT count(*) FROM episode")[0]
    return Kept(done["best"], tuple(done["episodes"]), recorded, structures, latency)


def judged(kind: str, found: Kept | None, alone: Kept) -> Judged:
    """Hold a search against the undisturbed one.

    Simulated boards answer alike every time: there the numbers must be equal too. On a real one
    the choice of the best depends on noise, and the sequence of policies is what must be equal.
    """
    if found is None:
        return Judged(False, 0, 0, 0)
    exact = kind == KIND
    if exact:
        same = (found.best, found.episodes) == (alone.best, alone.episodes)
    else:
        same = _chosen(found) == _chosen(alone)
    programs = Counter(found.structures.values())
    lost = len(set(alone.structures.values()) - programs.keys())
    named = [(e, name) for e in found.episodes for name in e["measurements"]]
    lost += sum(name not in found.structures for _, name in named)
    lost += max(0, len(alone.episodes) - found.recorded)
    twice = sum(count - 1 for count in programs.values())
    twice += max(0, found.recorded - len(alone.episodes))
    return Judged(same, lost, twice, _stale(found, alone, named, exact=exact))


def _stale(found: Kept, alone: Kept, named: list[tuple[Any, str]], *, exact: bool) -> int:
    """Count numbers that are not those of their measurement, and those that nobody measured."""
    count = sum(found.latency_ms.get(name) != float(e["latency_ms"]) for e, name in named)
    count += len(set(found.structures.values()) - set(alone.structures.values()))
    if exact:
        count += len(found.latency_ms.items() - alone.latency_ms.items())
    return count


def _chosen(kept: Kept) -> list[list[Any]]:
    return [[episode[key] for key in CHOSEN] for episode in kept.episodes]
