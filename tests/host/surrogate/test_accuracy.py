"""Forecasts of accuracy: they learn, never rise with harm, and their intervals cover."""

from __future__ import annotations

import numpy as np
import pytest

from host.encoding import Batch, Encoding, Floats
from host.search.harm import harms
from host.stats import spearman
from host.surrogate.accuracy import AccuracyModel, Forecast, stretch, unstretch
from tests.host.search.toy import GRAPH, SPACE, problem

ENCODING = Encoding(SPACE, harms(problem(0, 1)))
GROUPS = [[layer.name] for layer in GRAPH.layers]
NOISE = 0.25


def truth(batch: Batch, rng: np.random.Generator) -> Floats:
    """Accuracies that follow the model's own law with weights that it does not know."""
    pruning, formats = ENCODING.harm(batch)
    total = pruning @ np.linspace(0.5, 2.0, pruning.shape[1]) + formats @ np.linspace(
        2.0, 0.5, formats.shape[1]
    )
    return unstretch(2.0 - 2.0 * np.log(total + 0.1) + NOISE * rng.normal(size=len(batch)), 0.1)


@pytest.fixture(scope="module")
def model() -> AccuracyModel:
    rng = np.random.default_rng(0)
    batch = ENCODING.random(60, rng)
    made = AccuracyModel(ENCODING, GROUPS, 10)
    made.fit(batch, truth(batch, rng))
    return made


def test_it_ranks_what_it_was_not_told(model: AccuracyModel) -> None:
    rng = np.random.default_rng(1)
    batch = ENCODING.random(300, rng)
    assert spearman(model(batch).accuracy(), truth(batch, rng)) > 0.75


def test_intervals_cover_what_they_say(model: AccuracyModel) -> None:
    rng = np.random.default_rng(2)
    batch = ENCODING.random(400, rng)
    accuracy = truth(batch, rng)
    low, high = model(batch).interval()
    # Wide rather than narrow: a search's evaluations are alike, its questions are not.
    assert 0.85 <= ((accuracy >= low) & (accuracy <= high)).mean() < 1.0


@pytest.mark.parametrize("layer", range(len(GRAPH.layers)))
def test_more_harm_is_never_forecast_to_be_better(model: AccuracyModel, layer: int) -> None:
    one = ENCODING.random(1, np.random.default_rng(3))
    count = len(ENCODING.forms)
    forms = np.repeat(one.forms, count, 0)
    forms[:, layer] = np.arange(count)
    batch = Batch(np.repeat(one.widths, count, 0), forms)
    order = np.argsort(ENCODING.harm(batch)[1][:, layer], kind="stable")
    assert (np.diff(model(batch).mean[order]) <= 1e-9).all()


def test_fewer_than_four_evaluations_teach_nothing() -> None:
    made = AccuracyModel(ENCODING, GROUPS, 10)
    made.fit(ENCODING.random(3, np.random.default_rng(0)), np.asarray([0.5, 0.6, 0.7]))
    assert not made.ready


def test_the_same_evaluations_give_the_same_forecast() -> None:
    rng = np.random.default_rng(0)
    batch = ENCODING.random(20, rng)
    accuracy = truth(batch, rng)
    found = []
    for _ in range(2):
        made = AccuracyModel(ENCODING, GROUPS, 10, seed=7)
        made.fit(batch, accuracy)
        found.append(made(batch).mean)
    assert np.array_equal(*found)


def test_stretching_is_undone() -> None:
    accuracy = np.asarray([0.2, 0.5, 0.9])
    assert unstretch(stretch(accuracy, 0.1), 0.1) == pytest.approx(accuracy)


@pytest.mark.parametrize(("value", "low", "high"), [(9.0, 0.98, 1.0), (-9.0, 0.0, 0.12)])
def test_beyond_the_edges_intervals_are_open(value: float, low: float, high: float) -> None:
    """Scores of all or none are told apart from no better ones, and must not count as missed."""
    forecast = Forecast(np.asarray([value]), np.asarray([0.2]), 0.1)
    bounds = [float(bound[0]) for bound in forecast.interval()]
    assert bounds == pytest.approx([low, high], abs=0.015)
    assert (bounds[1] == 1.0) == (value > 0) and (bounds[0] == 0.0) == (value < 0)
