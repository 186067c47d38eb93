"""Runs side by side: the same data, the same board, the same units, and what can be told apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hil_lab.report.facts import FP32, INT8, Facts, Program
from hil_lab.report.numbers import wilson
from host.errors import CallerError
from host.types import Evaluation, Figure

# Facts of a run that must agree before its numbers stand beside others', in words.
Shared = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished program of a run, beside the fp32 program of the same run.

    `evaluations` and `seconds` are those of the search that found it; a search of several targets
    counts whole for each. `board_programs` are distinct programs that boards measured for the run.
    """

    run: str
    strategy: str
    seed: int
    model: str
    name: str
    target: float | None
    evaluation: Evaluation
    latency_share: float
    times_smaller: float
    energy_share: float | None
    evaluations: int
    board_programs: int
    seconds: float

    @property
    def accuracy_range(self) -> tuple[float, float]:
        """The 95 % interval of the test accuracy."""
        return wilson(self.evaluation.accuracy, self.evaluation.samples)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        e, (low, high) = self.evaluation, self.accuracy_range
        return {
            "run": self.run,
            "strategy": self.strategy,
            "seed": self.seed,
            "model": self.model,
            "program": self.name,
            "target": self.target,
            "accuracy": e.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "samples": e.samples,
            "latency_ms": _value(e.latency_ms),
            "latency_share": self.latency_share,
            "energy_mj": _value(e.energy_mj),
            "energy_share": self.energy_share,
            "size_bytes": e.size_bytes,
            "times_smaller": self.times_smaller,
            "verdict": e.verdict,
            "evaluations": self.evaluations,
            "board_programs": self.board_programs,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Programs that compete: of one network, for one target; without a target the references.

    The most accurate comes first. `told_apart[i]` is whether its lead over entry i is more than
    chance explains, at 95 %.
    """

    model: str
    target: float | None
    entries: tuple[Entry, ...]

    @property
    def told_apart(self) -> tuple[bool, ...]:
        """Whether the best entry is told apart from each other one."""
        return tuple(apart(self.entries[0], entry) for entry in self.entries)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        rows = [
            {**entry.to_dict(), "told_apart_from_best": told}
            for entry, told in zip(self.entries, self.told_apart, strict=True)
        ]
        return {"model": self.model, "target": self.target, "programs": rows}


def compare(runs: Sequence[Facts], *, anyway: bool = False) -> list[Group]:
    """Return the groups of some runs, references first.

    Raises CallerError for runs without a result, and for those whose numbers cannot stand side by
    side (other data, board, protocol or units), unless they are to be compared `anyway`.
    """
    for facts in runs:
        if not facts.finished:
            raise CallerError(
                f"{facts.run.folder} has no result yet; go on with it: hil-lab resume "
                f"{facts.run.folder}"
            )
    if not anyway and (differing := differences(runs)):
        raise CallerError(
            f"these runs cannot stand side by side: {'; '.join(differing)} (--anyway compares them)"
        )
    entries = [entry for facts in runs for entry in _entries(facts)]
    found: dict[tuple[str, float | None], list[Entry]] = {}
    for entry in entries:
        found.setdefault((entry.model, entry.target), []).append(entry)
    order = sorted(found, key=lambda key: (key[0], key[1] is not None, -(key[1] or 0.0)))
    return [Group(*key, _ranked(found[key])) for key in order]


def differences(runs: Sequence[Facts]) -> list[str]:
    """Return in words what keeps the numbers of some runs apart."""
    shared = [_shared(facts) for facts in runs]
    said = []
    for name in shared[0]:
        values = list(dict.fromkeys(facts[name] for facts in shared))
        if len(values) > 1:
            said.append(f"{name} {' and '.join(values)}")
    return said


def apart(a: Entry, b: Entry) -> bool:
    """Whether two test accuracies differ by more than chance explains, at 95 %.

    Newcombe's interval for the difference of two shares (1998, method 10). The images are the same,
    so that real differences may be found somewhat too seldom, never too often.
    """
    p, q = a.evaluation.accuracy, b.evaluation.accuracy
    (p_low, p_high), (q_low, q_high) = a.accuracy_range, b.accuracy_range
    low = p - q - math.hypot(p - p_low, q_high - q)
    high = p - q + math.hypot(p_high - p, q - q_low)
    return low > 0 or high < 0


def _shared(facts: Facts) -> Shared:
    recipe, board = facts.recipe, facts.board
    prints = ", ".join(f"{k} {v}" for k, v in sorted(dict(board["fingerprint"]).items()))
    samples = {p.evaluation.samples for p in facts.programs}
    return {
        "data": f"{recipe.data} ({', '.join(map(str, sorted(samples)))} test images)",
        "board": f"{board['name']} ({prints})",
        "protocol": recipe.measure.report,
        "threads": str(recipe.threads),
    }


def _entries(facts: Facts) -> Iterator[Entry]:
    whole = facts.program(FP32)
    if whole is None:
        raise CallerError(f"{facts.run.folder} has no fp32 program to hold others against")
    for program in facts.programs:
        yield _entry(facts, program, whole)


def _entry(facts: Facts, program: Program, whole: Program) -> Entry:
    mine, full = program.evaluation, whole.evaluation
    energy = None
    if mine.energy_mj and full.energy_mj:
        energy = mine.energy_mj.value / full.energy_mj.value
    searches = [s for s in facts.searches if program.target in (None, s.target)]
    episodes = {e.policy.digest(): e for s in searches for e in s.episodes}
    return Entry(
        run=facts.run.name,
        strategy=facts.recipe.search.strategy,
        seed=facts.recipe.search.seed,
        model=facts.recipe.model,
        name=program.name,
        target=program.target,
        evaluation=mine,
        latency_share=program.latency_ms / whole.latency_ms,
        times_smaller=full.size_bytes / mine.size_bytes,
        energy_share=energy,
        evaluations=len(episodes),
        board_programs=len(facts.measured_by),
        seconds=_seconds(facts),
    )


def _seconds(facts: Facts) -> float:
    """Return the time from the run's first event to its last."""
    if not facts.started or not facts.ended:
        return 0.0
    start, end = (datetime.fromisoformat(at) for at in (facts.started, facts.ended))
    return (end - start).total_seconds()


def _ranked(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the most accurate first; of references each once, in their usual order."""
    if entries[0].target is None:
        once = {entry.name: entry for entry in reversed(entries)}
        return tuple(once[name] for name in (FP32, INT8) if name in once)
    return tuple(sorted(entries, key=lambda e: (-e.evaluation.accuracy, e.latency_share)))


def _value(figure: Figure | None) -> float | None:
    return figure.value if figure else None
