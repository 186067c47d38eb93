"""Layers alone: equal ones are timed once, and every contender computes each."""

from __future__ import annotations

import pytest

from hil_lab.bench.layers import EAGER, OURS, PACKED, LayerTimes, time_layers
from hil_lab.bench.networks import BenchNetwork
from hil_lab.console import Silent


def test_a_ratio_is_against_the_better_peer() -> None:
    samples = {OURS: (2.0,), EAGER: (3.0,), PACKED: (5.0, 4.0, 9.0)}
    times = LayerTimes("net", 1, ("a", "b"), "8 -> 8", 4_000_000, samples)
    assert times.ratio == pytest.approx(1.5)
    assert times.gmacs_per_s(OURS) == pytest.approx(2.0)
    assert times.row()[1] == "a and 1 more"


@pytest.mark.tvm
def test_every_layer_is_timed_by_every_contender() -> None:
    network = BenchNetwork("tiny", "digits-cnn", (1, 8, 8))
    times = list(time_layers(network, 1, 2, Silent()))
    layers = [name for t in times for name in t.layers]
    assert len(layers) == len(set(layers)) >= 3
    assert all(set(t.samples_ms) == {OURS, EAGER, PACKED} for t in times)
    assert all(len(values) == 2 for t in times for values in t.samples_ms.values())
