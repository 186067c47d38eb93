"""What agents see of layers: finite, comparable, and no zero for an event that was not counted."""

from __future__ import annotations

import numpy as np
import pytest

from host.encoding import Encoding
from host.search.frontier.features import Events, layer_features, probes
from tests.host.search.toy import GRAPH, SPACE, layer_cost

NAMES = [layer.name for layer in GRAPH.layers]
HARMS = {
    name: {"prune": (0.0, 0.1 * i, 0.3 * i), "int8": (0.01 * i,)} for i, name in enumerate(NAMES)
}
ENCODING = Encoding(SPACE, HARMS)


def events(*counts: str, but: str = "") -> Events:
    rows = {name: {event: 100.0 * (1 + i) for event in counts} for i, name in enumerate(NAMES)}
    rows[NAMES[2]].pop(but, None)
    return rows


def columns(counted: Events) -> int:
    return int(layer_features(ENCODING, layer_cost, counted).shape[1])


def test_features_are_of_mean_zero_and_variance_one_or_constant() -> None:
    table = layer_features(ENCODING, layer_cost, events("l2d_refill"))
    assert table.shape[0] == len(NAMES)
    assert np.isfinite(table).all()
    assert table.mean(0) == pytest.approx(np.zeros(table.shape[1]), abs=1e-9)
    assert all(s == pytest.approx(1.0) or s == pytest.approx(0.0) for s in table.std(0))


def test_every_counted_event_is_a_feature() -> None:
    bare = columns({})
    assert columns(events("l2d_refill")) == bare + 1
    assert columns(events("l2d_refill", "bus_access")) == bare + 2


def test_an_event_that_one_layer_lacks_is_none() -> None:
    assert columns(events("l2d_refill", "bus_access", but="bus_access")) == columns({}) + 1


def test_the_share_of_vector_instructions_needs_both_counts() -> None:
    bare = columns({})
    assert columns(events("ase_spec")) == bare + 1
    assert columns(events("ase_spec", "instructions")) == bare + 3


def test_probes_are_whole_in_every_format_and_half_as_wide() -> None:
    batch = probes(ENCODING)
    policies = [ENCODING.policy(batch, i) for i in range(len(batch))]
    modes = [{p.mode for p in policy.layers} for policy in policies]
    assert modes[0] == {"fp32"} and "int8" in modes[1] and "mix" in modes[2]
    full = {x.name: x.out_channels for x in GRAPH.layers}
    assert all(p.keep == full[p.layer] for policy in policies[:3] for p in policy.layers)
    assert all(policies[3][x.name].keep < x.out_channels for x in ENCODING.drivers)
