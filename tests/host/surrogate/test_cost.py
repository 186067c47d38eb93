"""Fast latencies: near the planned ones, exact where something was planned, corrected by boards."""

from __future__ import annotations

import numpy as np
import pytest

from host.encoding import Encoding
from host.surrogate.cost import Correction, LayerCosts, shares
from tests.host.search.toy import SPACE, layer_cost

ENCODING = Encoding(SPACE)


@pytest.fixture(scope="module")
def latency() -> LayerCosts:
    return LayerCosts(ENCODING, layer_cost, np.random.default_rng(0))


def test_it_is_near_the_planned_latency(latency: LayerCosts) -> None:
    batch = ENCODING.random(50, np.random.default_rng(1))
    truth = [sum(layer_cost(ENCODING.policy(batch, i)).values()) for i in range(len(batch))]
    assert np.median(np.abs(latency(batch) / truth - 1)) < 0.03


def test_what_was_planned_is_exact(latency: LayerCosts) -> None:
    batch = ENCODING.random(5, np.random.default_rng(2))
    rows = [layer_cost(ENCODING.policy(batch, i)) for i in range(len(batch))]
    odd = [{name: ms * 1.5 for name, ms in row.items()} for row in rows]
    latency.learn(batch, odd)
    assert latency.by_layer(batch).sum(1) == pytest.approx([sum(row.values()) for row in odd])


def test_what_it_remembers_survives_a_checkpoint(latency: LayerCosts) -> None:
    batch = ENCODING.random(5, np.random.default_rng(3))
    latency.learn(batch, [layer_cost(ENCODING.policy(batch, i)) for i in range(len(batch))])
    other = LayerCosts(ENCODING, layer_cost, np.random.default_rng(0))
    other.load_state_dict(latency.state_dict())
    assert np.array_equal(other(batch), latency(batch))


def test_a_correction_is_learned_for_each_kind_of_format() -> None:
    correction = Correction()
    truth = np.asarray([1.0, 1.05, 0.95])
    rng = np.random.default_rng(0)
    for _ in range(20):
        part = rng.dirichlet(np.ones(3))
        correction.learn(part, float(part @ truth))
    factor, deviation = correction(np.asarray([0.2, 0.3, 0.5]))
    assert factor == pytest.approx(float(np.asarray([0.2, 0.3, 0.5]) @ truth), abs=0.005)
    assert deviation < 0.01


def test_nothing_measured_corrects_nothing() -> None:
    assert Correction()(np.asarray([1.0, 0.0, 0.0]))[0] == 1.0


def test_shares_are_of_the_whole() -> None:
    batch = ENCODING.random(1, np.random.default_rng(4))
    policy = ENCODING.policy(batch)
    found = shares(policy, {**layer_cost(policy), "": 0.5})
    assert found.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("noise", [0.001, 0.01, 0.04])
def test_stated_deviations_follow_what_factors_leave_over(noise: float) -> None:
    """Nine tenths of later measurements lie within the 90 % interval, however exact a board is."""
    rng = np.random.default_rng(int(1e4 * noise))
    truth, correction, covered = np.asarray([1.0, 1.05, 0.95]), Correction(), []
    for number in range(400):
        part = rng.dirichlet(np.ones(3))
        ratio = float(part @ truth) + noise * rng.normal()
        factor, deviation = correction(part)
        if number >= 20:
            covered.append(abs(ratio - factor) < 1.645 * deviation)
        correction.learn(part, ratio)
    assert 0.85 <= np.mean(covered) <= 0.97


def test_a_board_that_surprises_is_believed_to_surprise_again() -> None:
    steady, unsteady = Correction(), Correction()
    part = np.asarray([0.5, 0.5, 0.0])
    for sign in (1, -1, 1, -1, 1, -1):
        steady.learn(part, 1.0)
        unsteady.learn(part, 1.0 + 0.05 * sign)
    assert unsteady.noise > 3 * steady.noise
