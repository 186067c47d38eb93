"""The aim: actions are moved onto it, and it moves with what is measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.cost import SIZE
from host.policy import Policy, uncompressed
from host.search.actions import choice
from host.search.goal import Goal
from tests.host.search.toy import GRAPH, SPACE, evaluate, problem, problem_in

actions_of_layers = st.lists(st.tuples(*[st.floats(0.0, 1.0)] * 3), min_size=6, max_size=6).map(
    np.asarray
)


def policy_of(actions: np.ndarray) -> Policy:
    pairs = zip(GRAPH.layers, actions, strict=True)
    return SPACE.policy({layer.name: choice("joint", a, layer, SPACE) for layer, a in pairs})


def test_actions_on_the_aim_stay() -> None:
    actions = np.full((6, 3), 0.35)
    goal = Goal(problem())
    goal.value = goal.predict(policy_of(actions))
    np.testing.assert_array_equal(goal.shift(actions, policy_of), actions)


@given(actions_of_layers)
def test_a_shift_never_predicts_worse_and_stays_in_range(actions: np.ndarray) -> None:
    goal = Goal(problem())
    moved = goal.shift(actions, policy_of)
    assert moved.min() >= 0.0
    assert moved.max() <= 1.0
    before, after = (abs(goal.predict(policy_of(a)) - goal.value) for a in (actions, moved))
    assert after <= before + 1e-9


def test_the_aim_moves_against_the_error_of_the_prediction() -> None:
    goal, policy = Goal(problem()), uncompressed(GRAPH)
    e = evaluate(policy)
    assert e.latency_ms is not None
    # The board is a tenth slower than predicted: aim a tenth lower.
    slower = replace(e, latency_ms=replace(e.latency_ms, value=1.1 * goal.target))
    goal.learn(policy, slower)
    assert goal.value == pytest.approx(goal.predict(policy) / 1.1)


def test_without_predictions_there_is_no_aim() -> None:
    with pytest.raises(ValueError, match="layer_cost"):
        Goal(replace(problem(), layer_cost=None))


def test_the_aim_is_in_the_unit_of_the_cost() -> None:
    made = problem_in(SIZE, 0.3)
    goal, policy = Goal(made), uncompressed(GRAPH)
    goal.learn(policy, evaluate(policy))
    assert goal.value == pytest.approx(0.3 * made.reference)
