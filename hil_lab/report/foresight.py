"""The rows of the table that says how well a search foresaw what it evaluated."""

from __future__ import annotations

from dataclasses import dataclass

from hil_lab.report.facts import Facts
from hil_lab.report.numbers import percent, times
from hil_lab.runs import FRONT
from host.surrogate.scorecard import COVERED, Scorecard

NONE = "\N{EN DASH}"
STATED = percent(COVERED, 0)


@dataclass(frozen=True, slots=True)
class ForesightRow:
    """One search's forecasts beside their truths, ready to print."""

    search: str
    pairs: int
    error: str
    rank: str
    covered: str
    cost_pairs: int
    cost_error: str
    cost_covered: str


def rows(facts: Facts) -> list[ForesightRow]:
    """Return a row per search that foretold anything."""
    return [_row(name, card) for name, card in facts.scorecards.items() if card.accuracy]


def _row(name: str, card: Scorecard) -> ForesightRow:
    figures = card.figures()
    return ForesightRow(
        search="all targets" if name == FRONT else f"target {times(float(name))}",
        pairs=figures.pairs,
        error=_share(figures.error, 2),
        rank=NONE if figures.rank is None else f"{figures.rank:.2f}",
        covered=_share(figures.covered, 0),
        cost_pairs=figures.cost_pairs,
        cost_error=_share(figures.cost_error_ratio, 2),
        cost_covered=_share(figures.cost_covered, 0),
    )


def _share(value: float | None, digits: int) -> str:
    return NONE if value is None else percent(value, digits)
