"""Errors that solving leaves: shares of a variance, growing with compression, for every layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from host.compress import reconstruct
from host.compress.reconstruct import teacher
from host.data import load_data
from host.graph import trace_with_plan
from host.models import make_network
from host.sensitivity.residual import residuals


@pytest.fixture(scope="module", params=["digits-cnn", "digits-vit"])
def bench(request: pytest.FixtureRequest) -> Any:
    data = load_data("digits")
    network = make_network(request.param, classes=10, input_shape=data.input_shape, seed=0).eval()
    graph, plan = trace_with_plan(network, request.param, data.input_shape, 10)
    known = teacher(network, [x.name for x in graph.layers], data.calibration(128))
    return network, graph, plan, known


def alike(known: Any) -> dict[str, float]:
    return dict.fromkeys(known.rows, 1.0)


def test_every_layer_has_its_errors(bench: Any) -> None:
    network, graph, plan, known = bench
    table = residuals(network, plan, known, alike(known))
    assert list(table) == [layer.name for layer in graph.layers]
    for group in plan.groups:
        assert len(table[group.driver]["prune"]) == 10
    for row in table.values():
        assert len(row["act"]) == len(row["weight"]) == 6
        assert all(v >= 0 for values in row.values() for v in values)


def test_fewer_bits_and_channels_leave_more(bench: Any) -> None:
    network, _, plan, known = bench
    for row in residuals(network, plan, known, alike(known)).values():
        assert row["act"][0] > row["act"][-1]
        assert row["weight"][0] > row["weight"][-1]
        assert row["int8"][0] < 0.01
        if "prune" in row:
            assert row["prune"][0] == 0.0
            assert np.diff(row["prune"]).min() > -0.02


def test_the_network_stays_as_it_was(bench: Any) -> None:
    network, _, plan, known = bench
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    residuals(network, plan, known, alike(known))
    for name, tensor in network.state_dict().items():
        assert bool((tensor == before[name]).all()), name


def test_layers_that_are_too_large_to_be_solved_cost_something_too(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, graph, plan, known = bench
    solved = residuals(network, plan, known, alike(known))
    monkeypatch.setattr(reconstruct, "MOST_UNKNOWNS", 0)
    kept = residuals(network, plan, teacher(network, list(known.rows), known.images), alike(known))
    for layer in graph.layers:
        for kind in ("act", "weight"):
            assert kept[layer.name][kind][0] >= 0.9 * solved[layer.name][kind][0]
    for group in plan.groups:
        assert kept[group.driver]["prune"][5] > 0.9 * solved[group.driver]["prune"][5] > 0


def test_a_layers_errors_are_weighed_and_a_groups_by_its_readers(bench: Any) -> None:
    network, graph, plan, known = bench
    plain = residuals(network, plan, known, alike(known))
    layers = {x.name for x in graph.layers}
    members = [(m, g.driver) for g in plan.groups for m in g.members]
    heavy = next(m.module for m, _ in members if m.side == "in" and m.module in layers)
    weighed = residuals(network, plan, known, {**alike(known), heavy: 2.0})
    assert weighed[heavy]["act"] == pytest.approx(2 * np.asarray(plain[heavy]["act"]))
    read = [driver for m, driver in members if m.side == "in" and m.module == heavy]
    assert all(sum(weighed[d]["prune"]) > sum(plain[d]["prune"]) for d in read)
    others = [x.name for x in graph.layers if x.name != heavy]
    assert all(weighed[x]["act"] == plain[x]["act"] for x in others)
