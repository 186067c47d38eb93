"""The composite agent: its table, its parts, and what it learns on the toy problem."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_lab.commands.search import recipe_path
from hil_lab.recipe import read_recipe
from host.compress.patterns import PATTERNS
from host.compress.pruners import PRUNERS
from host.energy import BoardEnergy
from host.errors import CallerError, RecipeError
from host.policy import L1, Policy, uncompressed, uniform_int8
from host.search.composite import (
    ALGORITHMS,
    COARSE,
    FINE,
    Composite,
    built_in_rewards,
    interpolated,
)
from host.search.episode import Episode
from host.search.loop import Memory, search
from host.search.strategy import make_strategy
from host.types import Evaluation
from tests.host.search.toy import GRAPH, SPACE, energy_mj, evaluate, layer_cost, problem

QUICK = {"hidden": (64, 48), "batch": 32, "actor_lr": 1e-3, "critic_lr": 5e-3}
DRIVERS = [layer.name for layer in GRAPH.drivers]


def composite(**settings: Any) -> Composite:
    made = make_strategy("composite", problem(0, 60, **QUICK, **settings))
    assert isinstance(made, Composite)
    return made


def walked(agent: Composite, episodes: int) -> list[tuple[Policy, Evaluation]]:
    found = []
    for _ in range(episodes):
        policy = agent.ask()
        found.append((policy, evaluate(policy)))
        agent.tell(*found[-1])
    return found


def gained(agent: Composite, policy: Policy, evaluation: Evaluation) -> float:
    assert agent.dense is not None
    accuracy, dense = agent.dense
    saved = 1 - agent.energy.of(policy, evaluation) / dense
    return agent.reward(accuracy - evaluation.accuracy, saved)


def test_the_table_goes_up_with_savings_and_down_with_losses() -> None:
    table = built_in_rewards()
    assert (np.diff(table, axis=1) > 0).all()
    assert (np.diff(table, axis=0) < 0).all()
    assert (table[:5] > 0).all() and (table[5:] < 0).all()


def test_edges_belong_to_the_milder_loss_and_the_better_saving() -> None:
    agent, table = composite(smooth=False), built_in_rewards()
    assert agent.reward(0.005, 0.0) == table[0, 0]
    assert agent.reward(0.0051, 0.1) == table[1, 1]
    assert agent.reward(-0.2, 0.95) == table[0, 9]
    assert agent.reward(0.5, -0.3) == table[6, 0]


def test_between_entries_rewards_are_interpolated() -> None:
    table = built_in_rewards()
    assert interpolated(table, 0.005, 0.05) == table[0, 0]
    assert interpolated(table, 0.01, 0.35) == pytest.approx(table[1, 3])
    assert interpolated(table, 0.015, 0.35) == pytest.approx((table[1, 3] + table[2, 3]) / 2)
    assert interpolated(table, 0.01, 0.40) == pytest.approx((table[1, 3] + table[1, 4]) / 2)
    assert interpolated(table, -0.1, -0.5) == table[0, 0]
    assert interpolated(table, 0.9, 2.0) == table[6, 9]


@given(st.floats(-0.1, 0.3), st.floats(-0.2, 1.0), st.floats(0, 0.2), st.floats(0, 0.5))
def test_no_interpolated_reward_is_for_worse(
    lost: float, saved: float, less: float, more: float
) -> None:
    table = built_in_rewards()
    now = interpolated(table, lost, saved)
    assert interpolated(table, lost - less, saved + more) >= now - 1e-9


def test_half_of_the_warm_up_prefers_one_order_of_algorithms_for_all_layers() -> None:
    agent, orders = composite(), list[bool]()
    for _ in range(7):
        policy = agent.ask()
        if agent.common is not None:
            first = next(i for i in agent.common if ALGORITHMS[i] in COARSE)
            fine = next(i for i in agent.common if ALGORITHMS[i] in FINE)
            wanted = {ALGORITHMS[first], ALGORITHMS[fine], L1}
            assert {p.pruner for p in policy.layers} <= wanted
        orders.append(agent.common is not None)
        agent.tell(policy, evaluate(policy))
    assert any(orders) and not all(orders[1:])


def test_most_layers_take_the_best_episodes_algorithms_after_the_warm_up() -> None:
    agent = composite(loyal=1.0, common_share=0.0)
    walked(agent, 10)
    assert agent.ddpg.episode >= agent.ddpg.settings.warmup_episodes and agent.best is not None
    reward, algorithms = agent.best
    walked(agent, 1)
    assert agent.best[1] == algorithms and agent.best[0] >= reward


def test_a_recipe_may_bring_its_own_table() -> None:
    agent = composite(smooth=False, rewards=[float(i) for i in range(70)])
    assert agent.reward(0.0, 0.0) == 0.0
    assert agent.reward(1.0, 1.0) == 69.0
    with pytest.raises(RecipeError, match="takes 7 x 10 numbers, got 3"):
        composite(rewards=[1.0, 2.0, 3.0])


def test_the_dense_network_comes_first_and_teaches_nothing() -> None:
    agent = composite()
    (policy, evaluation), *_ = walked(agent, 1)
    assert policy == uniform_int8(SPACE)
    assert agent.dense == (evaluation.accuracy, agent.energy.of(policy, evaluation))
    assert agent.ddpg.episode == agent.rainbow.episode == 0


def test_a_search_keeps_the_agents_own_reward_and_so_its_best_policy() -> None:
    agent, kept = composite(), list[Episode]()
    search(agent.problem, agent, evaluate, Memory(kept.append, lambda number, state: None))
    assert kept[0].reward == built_in_rewards()[0, 0]
    assert [e.reward for e in kept[1:]] == [gained(agent, e.policy, e.evaluation) for e in kept[1:]]


def test_a_boards_own_joules_can_be_what_is_saved() -> None:
    own = BoardEnergy(GRAPH, layer_cost)
    agent = make_strategy("composite", replace(problem(0, 60, **QUICK), energy=own))
    assert isinstance(agent, Composite)
    (policy, evaluation), *_ = walked(agent, 1)
    assert agent.dense == (evaluation.accuracy, energy_mj(policy))
    whole = own.shares(uncompressed(GRAPH))
    assert sum(whole.values()) == pytest.approx(1) and whole == agent.whole


def test_a_board_without_a_power_meter_is_refused() -> None:
    policy = uncompressed(GRAPH)
    unmetered = replace(evaluate(policy), energy_mj=None)
    with pytest.raises(CallerError, match="attach a power meter"):
        BoardEnergy(GRAPH, layer_cost).of(policy, unmetered)


def test_states_have_thirteen_features_and_rainbow_sees_the_actors() -> None:
    agent = composite()
    walked(agent, 1)
    agent.ask()
    assert agent.trace is not None
    assert {len(state) for state in agent.trace.states} == {13}
    assert {len(seen) for seen in agent.trace.seen} == {QUICK["hidden"][1]}
    assert len(agent.trace.algorithms) == len(GRAPH.layers)
    assert np.isfinite(np.asarray(agent.trace.states)).all()


def test_it_learns_to_save_energy_at_little_loss() -> None:
    agent = composite()
    rewards = [gained(agent, *pair) for pair in walked(agent, 120)[1:]]
    assert np.mean(rewards[-20:]) > np.mean(rewards[:15])
    assert np.mean(rewards[-20:]) > 0


def test_rainbow_finds_the_one_measure_that_does_no_harm() -> None:
    """Where every other measure costs a point a layer, the harmless one is chosen."""
    agent = composite(parts="rainbow", families="coarse")
    for _ in range(160):
        policy = agent.ask()
        pruned = [policy[name] for name in DRIVERS if policy[name].keep < 32]
        harmful = sum(layer.pruner != "median" for layer in pruned)
        agent.tell(policy, replace(evaluate(policy), accuracy=0.95 - 0.01 * harmful))
    last = agent.ask()
    assert sum(last[name].pruner == "median" for name in DRIVERS) >= len(DRIVERS) - 1


def test_parts_can_be_taken_away() -> None:
    for policy, _ in walked(composite(parts="ddpg"), 6)[1:]:
        assert {p.pruner for p in policy.layers} == {L1}
    for policy, _ in walked(composite(parts="rainbow"), 6)[1:]:
        assert {p.mode for p in policy.layers} == {"int8"}
        gone = {(p.keep, p.zeros) for p in policy.layers if p.layer in DRIVERS}
        assert gone <= {(24, 0), (32, 30), (32, 50)}
    for policy, _ in walked(composite(families="coarse"), 6)[1:]:
        assert not any(p.zeros for p in policy.layers)
    for policy, _ in walked(composite(families="fine"), 6)[1:]:
        assert all(p.keep == 32 for p in policy.layers)
        assert {p.zeros for p in policy.layers if p.pruner == "2:4"} <= {50}
    for policy, _ in walked(composite(uniform_bits=4), 6)[1:]:
        assert {p.weight_bits for p in policy.layers[1:]} <= {4}
    named = {p.pruner for policy, _ in walked(composite(), 30) for p in policy.layers}
    assert named <= set(ALGORITHMS) and len(named) > 2


def test_layers_whose_channels_may_not_go_lose_single_weights() -> None:
    last = GRAPH.layers[-1].name
    found = [policy[last] for policy, _ in walked(composite(), 12)[1:]]
    assert {p.keep for p in found} == {32}
    assert any(p.zeros for p in found)
    assert {p.pruner for p in found} <= {L1, *FINE}


def test_the_algorithms_are_those_that_exist() -> None:
    assert set(COARSE) == set(PRUNERS)
    # Noise has to be learned of a network first, which one shot does without.
    assert set(FINE) == set(PATTERNS)


def test_without_energies_it_says_so() -> None:
    with pytest.raises(RecipeError, match="energy of policies is missing"):
        make_strategy("composite", replace(problem(), energy=None))


def test_the_built_in_recipe_shows_the_built_in_table() -> None:
    recipe = read_recipe(recipe_path("resnet20-energy"))
    own = np.asarray(recipe.search.agent["rewards"]).reshape(built_in_rewards().shape)
    assert own == pytest.approx(built_in_rewards(), rel=1e-3)
