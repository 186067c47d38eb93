"""Who measured what, where a run had several boards: counts of the search, medians of programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hil_lab.report.charts import LABELS
from hil_lab.report.facts import Facts, Program
from hil_lab.report.numbers import ms, times


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One board: evaluations of the search that it measured, and its median of every program."""

    name: str
    evaluations: int
    latencies: tuple[str, ...]


def rows(facts: Facts) -> list[BoardRow]:
    """Return a row per board of the recipe and per other one that measured; none for one board."""
    counts = Counter(
        board
        for search in facts.searches
        for episode in search.episodes
        for board in {facts.measured_by.get(m, "") for m in episode.evaluation.measurements}
    )
    names = dict.fromkeys([*facts.recipe.board, *sorted(name for name in counts if name)])
    if len(names) < 2:
        return []
    return [
        BoardRow(name, counts[name], tuple(_latency(facts, p, name) for p in facts.programs))
        for name in names
    ]


def programs(facts: Facts) -> list[str]:
    """Return the heads of the columns of latencies."""
    return [LABELS.get(p.name) or f"yours, target {times(p.target or 0)}" for p in facts.programs]


def _latency(facts: Facts, program: Program, board: str) -> str:
    for name in program.evaluation.measurements:
        measurement = facts.measurements.get(name)
        if measurement and measurement.board == board:
            return ms(measurement.latency_ms.median)
    return ""
