"""Costs: read off evaluations, put into forecasts, and refused where nothing reported them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from host.cost import COSTS, ENERGY, LATENCY, SIZE, Cost
from host.errors import CallerError
from host.policy import uncompressed
from host.types import Figure
from tests.host.search.toy import GRAPH, evaluate

TRUTH = evaluate(uncompressed(GRAPH))
ALL = [COSTS[name] for name in COSTS]


def test_each_reads_its_own_field() -> None:
    known = replace(
        TRUTH,
        latency_ms=Figure(2.0, "measured"),
        energy_mj=Figure(7.0, "measured"),
        size_bytes=11,
    )
    assert [cost.of(known) for cost in (LATENCY, ENERGY, SIZE)] == [2.0, 7.0, 11.0]


@pytest.mark.parametrize("cost", ALL, ids=lambda cost: cost.name)
def test_a_forecast_holds_the_cost_that_was_forecast(cost: Cost) -> None:
    forecast = cost.forecast(0.7, 40.0)
    assert (forecast.accuracy, cost.of(forecast)) == (0.7, 40.0)


@pytest.mark.parametrize("cost", ALL, ids=lambda cost: cost.name)
def test_a_forecast_of_one_cost_knows_no_other_figure(cost: Cost) -> None:
    forecast = cost.forecast(0.7, 40.0)
    others = {"latency_ms": None, "energy_mj": None, "size_bytes": 0}
    others.pop(cost.field)
    assert {name: getattr(forecast, name) for name in others} == others


def test_what_no_board_reported_is_refused_with_what_to_do() -> None:
    with pytest.raises(CallerError, match="reports no energy: attach a power meter"):
        ENERGY.of(replace(TRUTH, energy_mj=None))
