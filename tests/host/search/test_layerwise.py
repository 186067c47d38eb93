"""AMC and HAQ: every policy is within the budget, and the agents learn the toy problem."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from host.cost import SIZE
from host.errors import RecipeError
from host.search.episode import Episode
from host.search.layerwise import LayerwiseSettings, layer_table
from host.search.loop import Evaluate, Memory, search
from host.search.strategy import Problem, make_strategy
from tests.host.search.toy import FRAGILITY, GRAPH, evaluate, problem, problem_in

QUICK = {"hidden": (64, 48), "batch": 32, "actor_lr": 1e-3, "critic_lr": 5e-3}
EPISODES = 60


def run(name: str, made: Problem, scored: Evaluate = evaluate) -> list[Episode]:
    strategy = make_strategy(name, made)
    return search(made, strategy, scored, Memory(lambda e: None, lambda n, s: None))


@pytest.mark.parametrize("name", ["amc", "haq"])
def test_every_policy_is_within_the_budget(name: str) -> None:
    made = problem(0, EPISODES, **QUICK)
    costs = [made.cost.of(e.evaluation) for e in run(name, made)]
    assert max(costs) <= made.target
    # And uses it: a wall that is never touched is no wall.
    assert max(costs) > 0.9 * made.target


@pytest.mark.parametrize("name", ["amc", "haq"])
def test_the_agent_gets_better(name: str) -> None:
    made = problem(0, EPISODES, **QUICK)
    accuracies = [e.evaluation.accuracy for e in run(name, made)]
    assert np.mean(accuracies[-10:]) > np.mean(accuracies[:10])


def test_budgets_may_be_bytes() -> None:
    made = problem_in(SIZE, 0.2, episodes=EPISODES, **QUICK)
    assert max(e.evaluation.size_bytes for e in run("haq", made)) <= made.target * 1.001


def test_haq_spares_the_first_and_the_last_layer_and_amc_all_formats() -> None:
    for episode in run("haq", problem(0, 12, **QUICK)):
        assert (episode.policy.layers[0].mode, episode.policy.layers[-1].mode) == ("int8", "int8")
        assert [p.keep for p in episode.policy.layers] == [x.out_channels for x in GRAPH.layers]
    for episode in run("amc", problem(0, 12, **QUICK)):
        assert {p.mode for p in episode.policy.layers} == {"fp32"}


def test_amc_keeps_more_of_what_is_fragile() -> None:
    """With rewards for accuracy alone, the last quarter keeps most where most would be lost."""
    made = problem(1, 120, **QUICK)
    late = [e.policy for e in run("amc", made)[-30:]]
    kept = np.mean([[p.keep for p in policy.layers[:-1]] for policy in late], axis=0)
    assert kept[int(np.argmax(FRAGILITY[:-1]))] > kept[2:4].mean()


def test_amc_may_also_be_rewarded_for_costing_less() -> None:
    """Where accuracy does not depend on the policy, only cost is left to learn."""
    loose = replace(problem(0, 80, **QUICK, reward="guaranteed"), target=9.0)
    alike = run("amc", loose, lambda policy: replace(evaluate(policy), accuracy=0.5))
    costs = [loose.cost.of(e.evaluation) for e in alike]
    assert np.mean(costs[-20:]) < np.mean(costs[:10])


def test_a_network_without_a_decision_is_refused() -> None:
    made = problem()
    frozen = frozenset(layer.name for layer in GRAPH.layers)
    made = replace(made, space=replace(made.space, frozen=frozen))
    with pytest.raises(RecipeError, match="no layer here may lose any"):
        make_strategy("amc", made)
    with pytest.raises(RecipeError, match="no layer here may have fewer than 8"):
        make_strategy("haq", made)


def test_figures_of_layers_go_from_zero_to_one() -> None:
    table = layer_table(GRAPH.layers, ("index", "in", "params", "linear"))
    assert table.min() == 0.0 and table.max() == 1.0
    assert table[:, 0].tolist() == pytest.approx(np.linspace(0, 1, len(GRAPH.layers)).tolist())
    assert not table[:, 3].any()


def test_warm_up_is_a_share_of_the_search() -> None:
    assert LayerwiseSettings().during(800).warmup_episodes == 100
    assert LayerwiseSettings().during(3).warmup_episodes == 1
