"""Predicted layer times: exact on what was profiled, scaled by MACs where pruned."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from host.layer_times import LayerTimes, profile_layers, uniform_programs
from host.policy import Choice, Policy, uncompressed
from tests.host.search.toy import GRAPH, SPACE, layer_cost


@pytest.fixture(scope="module")
def times() -> LayerTimes:
    def profile(policy: Policy) -> Iterable[tuple[str, float]]:
        yield "", 0.5
        for layer, ms in layer_cost(policy).items():
            yield layer, ms / 2  # two kernels a layer
            yield layer, ms / 2

    return profile_layers(SPACE, profile)


@pytest.mark.parametrize("name", uniform_programs(SPACE))
def test_a_profiled_program_is_predicted_exactly(times: LayerTimes, name: str) -> None:
    policy = uniform_programs(SPACE)[name]
    assert times(policy) == pytest.approx({"": 0.5, **layer_cost(policy)})


def test_a_pruned_layer_is_predicted_by_its_macs(times: LayerTimes) -> None:
    policy = SPACE.policy({"conv1": Choice(8, "int8", 8, 8)})
    assert times(policy) == pytest.approx({"": 0.5, **layer_cost(policy)})


def test_unlike_bits_are_interpolated_over_their_product(times: LayerTimes) -> None:
    policy = SPACE.policy({"conv1": Choice(None, "mix", 2, 6)})
    neighbours = [SPACE.policy({"conv1": Choice(None, "mix", b, b)}) for b in (3, 4)]
    low, high = (times(p)["conv1"] for p in neighbours)
    assert low < times(policy)["conv1"] < high


def test_the_uncompressed_network_takes_the_fp32_profile(times: LayerTimes) -> None:
    assert sum(times(uncompressed(GRAPH)).values()) == pytest.approx(10.5)
