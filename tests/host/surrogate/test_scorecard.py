"""What was foretold against what came: only real truths count, and figures follow from pairs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from host.cost import ENERGY, LATENCY, SIZE
from host.policy import uncompressed
from host.surrogate.scorecard import Expected, Foretold, Scorecard
from host.types import Evaluation, Figure
from tests.host.search.toy import GRAPH, evaluate

TRUTH = evaluate(uncompressed(GRAPH))


def truth(accuracy: float, ms: float = 2.0, source: str = "measured") -> Evaluation:
    return replace(TRUTH, accuracy=accuracy, latency_ms=Figure(ms, source))  # type: ignore[arg-type]


def card(*pairs: tuple[float, float], reach: float | None = None) -> Scorecard:
    """Return a card of (foretold, true) accuracies with intervals of a half-width."""
    made = Scorecard()
    for expected, true in pairs:
        bounds = () if reach is None else (expected - reach, expected + reach)
        made.add(Foretold(Expected(expected, *bounds)), truth(true))
    return made


def test_errors_are_means_of_their_sizes() -> None:
    figures = card((0.9, 0.8), (0.7, 0.72)).figures()
    assert figures.pairs == 2
    assert figures.error == pytest.approx(0.06)


def test_order_is_spearmans() -> None:
    assert card((0.1, 0.2), (0.2, 0.3), (0.3, 0.9)).figures().rank == pytest.approx(1.0)
    assert card((0.1, 0.9), (0.2, 0.3), (0.3, 0.2)).figures().rank == pytest.approx(-1.0)


@pytest.mark.parametrize(
    "pairs",
    [
        [(0.1, 0.2), (0.2, 0.3)],
        [(0.1, 0.2), (0.1, 0.3), (0.1, 0.4)],
        [(0.1, 0.2), (0.2, 0.2), (0.3, 0.2)],
    ],
)
def test_what_has_no_order_has_no_rank(pairs: list[tuple[float, float]]) -> None:
    assert card(*pairs).figures().rank is None


def test_coverage_is_of_stated_intervals_alone() -> None:
    assert card((0.5, 0.55), (0.5, 0.58), (0.5, 0.8), reach=0.1).figures().covered == pytest.approx(
        2 / 3
    )
    assert card((0.5, 0.55)).figures().covered is None


def test_latency_errors_are_medians_of_shares_and_of_boards_alone() -> None:
    made = Scorecard()
    for expected, true, source in (
        (1.1, 1.0, "measured"),
        (2.04, 2.0, "cached"),
        (4.0, 2.0, "measured"),
        (9.0, 1.0, "predicted"),
    ):
        foretold = Foretold(Expected(0.5), Expected(expected, expected - 0.05, expected + 0.05))
        made.add(foretold, truth(0.5, true, source))
    figures = made.figures()
    assert (figures.pairs, figures.cost_pairs) == (4, 3)
    assert figures.cost_error_ratio == pytest.approx(0.1)
    assert figures.cost_covered == pytest.approx(1 / 3)


def test_an_empty_card_says_nothing() -> None:
    figures = Scorecard().figures()
    assert (figures.error, figures.covered, figures.cost_error_ratio) == (None, None, None)
    assert str(figures) == ""


def test_a_card_in_a_few_words() -> None:
    assert str(card((0.9, 0.888)).figures()) == "surrogate ±1.2 %"
    assert str(card((0.1, 0.2), (0.2, 0.3), (0.3, 0.4)).figures()) == "surrogate ±10.0 %, rank 1.00"


def test_a_card_survives_its_json() -> None:
    made = card((0.5, 0.6), (0.7, 0.5), reach=0.1)
    made.add(Foretold(Expected(0.5), Expected(1.0, 0.9, 1.1)), truth(0.4))
    assert Scorecard.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_the_cost_is_the_one_that_the_problem_counts() -> None:
    spent = replace(truth(0.5, ms=9.0), energy_mj=Figure(4.0, "measured"), size_bytes=200)
    for cost, expected, error in ((ENERGY, 5.0, 0.25), (SIZE, 200.0, 0.0), (LATENCY, 9.9, 0.1)):
        made = Scorecard()
        made.add(Foretold(Expected(0.5), Expected(expected)), spent, cost)
        assert made.figures().cost_error_ratio == pytest.approx(error)
    unknown = Scorecard()
    unmeasured = replace(spent, energy_mj=None)
    unknown.add(Foretold(Expected(0.5), Expected(1.0)), unmeasured, ENERGY)
    assert (len(unknown.accuracy), len(unknown.cost)) == (1, 0)
