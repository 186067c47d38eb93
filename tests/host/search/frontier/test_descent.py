"""Descents: they pass every goal, always by the cheapest step, and decide only what is free."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.encoding import Batch, Encoding, Floats
from host.policy import uncompressed
from host.search.frontier.descent import Descent
from host.search.stage import Stage
from host.surrogate.cost import by_layer
from tests.host.search.toy import FRAGILITY, GRAPH, SPACE, layer_cost

ENCODING = Encoding(SPACE)
WHOLE = ENCODING.batch([uncompressed(GRAPH)])


def cost(batch: Batch) -> Floats:
    policies = [ENCODING.policy(batch, i) for i in range(len(batch))]
    return np.asarray(by_layer(GRAPH.layers, map(layer_cost, policies)).sum(1))


def harm(batch: Batch) -> Floats:
    """What the fragile layers lose, of channels more than of bits."""
    _, outside = ENCODING.channels(batch)
    lost = 1 - outside / [x.out_channels for x in GRAPH.layers]
    bits = np.asarray([f.weight_bits for f in ENCODING.forms])[batch.forms]
    return np.asarray((3 * lost + 4 / bits) @ np.asarray(FRAGILITY))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.3, 9.5), min_size=1, max_size=4))
def test_every_goal_is_passed_with_a_policy_on_either_side(goals: list[float]) -> None:
    passed = cost(Descent(ENCODING)(WHOLE, goals, harm, cost))
    for above, below, goal in zip(
        passed[::2], passed[1::2], sorted(goals, reverse=True), strict=True
    ):
        assert below <= goal <= above or above == below


def test_each_step_is_the_cheapest_of_all() -> None:
    whole_cost, whole_harm = float(cost(WHOLE)[0]), float(harm(WHOLE)[0])
    _, first = (
        Descent(ENCODING)(WHOLE, [whole_cost - 1e-6], harm, cost)[np.array([i])] for i in (0, 1)
    )
    around = ENCODING.neighbours(WHOLE)
    even = np.asarray([f.weight_bits == f.act_bits for f in ENCODING.forms])[around.forms].all(1)
    around = around[even]
    price = (harm(around) - whole_harm) / np.maximum(whole_cost - cost(around), 1e-12)
    found = (harm(first)[0] - whole_harm) / (whole_cost - cost(first)[0])
    assert found == pytest.approx(price.min())


def test_a_goal_out_of_reach_ends_with_the_last_policy() -> None:
    passed = Descent(ENCODING)(WHOLE, [1e-9], harm, cost)
    bottom = ENCODING.policy(passed, len(passed) - 1)
    assert all(p.weight_bits == 1 or p.mode != "mix" for p in bottom.layers)
    assert not (cost(ENCODING.neighbours(passed[np.array([-1])])) < cost(passed)[-1] - 1e-9).any()


@pytest.mark.parametrize("widths", [True, False])
def test_what_is_not_free_stays(widths: bool) -> None:
    stage = Stage(widths=widths, forms=not widths, base=WHOLE)
    passed = Descent(ENCODING, stage)(WHOLE, [5.0], harm, cost)
    held = passed.forms == WHOLE.forms if widths else passed.widths == WHOLE.widths
    moved = passed.widths != WHOLE.widths if widths else passed.forms != WHOLE.forms
    assert held.all()
    assert moved.any()
