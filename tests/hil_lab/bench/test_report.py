"""What a benchmark hands over: bars, directions, and what a subset of networks says of itself."""

from __future__ import annotations

import pytest

from hil_lab.bench.networks import NETWORKS, chosen
from hil_lab.bench.report import Report, Show, over


@pytest.mark.parametrize(
    ("value", "sense", "holds"),
    [(1.1, "at least", True), (1.0, "at least", False), (1.1, "at most", True)],
)
def test_a_bar_is_met_at_its_own_value(value: float, sense: str, holds: bool) -> None:
    assert Show("n", value, "s", 1.1, sense).holds is holds  # type: ignore[arg-type]


def test_a_figure_says_in_which_direction_its_bar_lies() -> None:
    show = Show("cold", 7.0, "s", 6.0, "at most")
    assert show.to_dict() == {
        "name": "cold, at most", "value": 7.0, "unit": "s", "bar": 6.0, "holds": False,
    }  # fmt: skip
    assert show.row() == ["cold", "7 s", "at most 6", "FAILS"]


def test_figures_without_a_bar_stand_beside_the_shows_and_fail_nothing() -> None:
    report = Report({"x": [1]}, [], [Show("a", 1.0, "", 1.0), Show("b", 0.0, "")], ["why"])
    assert report.holds
    assert report.to_dict() == {
        "x": [1],
        "shows": [{"name": "a, at least", "value": 1.0, "unit": "", "bar": 1.0, "holds": True}],
        "beside": [{"name": "b", "value": 0.0, "unit": ""}],
        "missing": ["why"],
    }


def test_one_missed_bar_fails_the_benchmark() -> None:
    assert not Report({}, [], [Show("a", 1.0, "", 1.0), Show("b", 0.0, "", 1.0)]).holds


def test_a_figure_over_some_networks_names_them() -> None:
    assert over(chosen([]), NETWORKS) == ""
    assert over(chosen(["resnet20"]), NETWORKS) == " (resnet20)"
