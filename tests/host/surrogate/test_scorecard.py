"""What was foretold against what came: only real truths count, and figures follow from pairs."""

from __future__ import annotations

import json

import pytest

from host.surrogate.scorecard import Expected, Foretold, Scorecard


def card(*pairs: tuple[float, float], reach: float | None = None) -> Scorecard:
    """Return a card of (foretold, true) accuracies with intervals of a half-width."""
    made = Scorecard()
    for expected, true in pairs:
        bounds = () if reach is None else (expected - reach, expected + reach)
        made.add(Foretold(Expected(expected, *bounds)), true, None)
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


def test_errors_of_costs_are_medians_of_shares_where_the_truth_is_known() -> None:
    made = Scorecard()
    for expected, true in ((1.1, 1.0), (2.04, 2.0), (4.0, 2.0), (9.0, None)):
        foretold = Foretold(Expected(0.5), Expected(expected, expected - 0.05, expected + 0.05))
        made.add(foretold, 0.5, true)
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
    made.add(Foretold(Expected(0.5), Expected(1.0, 0.9, 1.1)), 0.4, 1.05)
    assert Scorecard.from_dict(json.loads(json.dumps(made.to_dict()))) == made
