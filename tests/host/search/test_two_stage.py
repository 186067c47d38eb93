"""Two stages: loose weights and channels first, then bits on what the first stage came to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from host.cost import SIZE
from host.errors import RecipeError
from host.policy import Policy, policy_weights, uncompressed
from host.search.episode import Episode
from host.search.loop import Memory, search
from host.search.reward import one_sided
from host.search.strategy import Problem, Sparing, Staged, make_strategy
from host.search.two_stage import TwoStage
from tests.host.search.toy import GRAPH, evaluate, layer_bytes, problem

EPISODES, LOOSE = 24, 40
QUICK = {"hidden": (32, 32), "batch": 16}


def a_problem(**settings: Any) -> Problem:
    made = problem(0, EPISODES, **QUICK, **settings)
    whole = sum(layer_bytes(uncompressed(GRAPH)).values())
    return replace(
        made,
        cost=SIZE,
        reward=one_sided(cost=SIZE),
        target=0.1 * whole,
        reference=whole,
        layer_cost=layer_bytes,
        loose={layer.name: LOOSE for layer in GRAPH.layers},
    )


def searched(made: Problem) -> tuple[TwoStage, list[Episode], list[Policy | None]]:
    strategy, starts = make_strategy("two-stage", made), list[Policy | None]()
    assert isinstance(strategy, TwoStage)

    def scored(policy: Policy) -> Any:
        starts.append(strategy.start)
        return evaluate(policy)

    memory = Memory(lambda e: None, lambda n, s: None)
    return strategy, search(made, strategy, scored, memory), starts


def left(policy: Policy) -> float:
    whole = policy_weights(GRAPH, uncompressed(GRAPH))
    return sum(policy_weights(GRAPH, policy).values()) / sum(whole.values())


def test_the_first_stage_prunes_within_its_budget_and_the_second_takes_bits() -> None:
    _, episodes, _ = searched(a_problem(left=0.3))
    first, second = episodes[: EPISODES // 2], episodes[EPISODES // 2 :]
    for episode in first:
        assert {p.mode for p in episode.policy.layers} == {"fp32"}
        assert {(p.zeros, p.pruner) for p in episode.policy.layers} == {(LOOSE, "magnitude")}
        assert left(episode.policy) <= 0.3
    for episode in second:
        assert all(p.mode != "fp32" for p in episode.policy.layers)
        assert {p.pruner for p in episode.policy.layers} == {"magnitude"}


def test_the_second_stage_starts_from_the_best_of_the_first_and_meets_the_target() -> None:
    made = a_problem(left=0.3)
    strategy, episodes, starts = searched(made)
    assert isinstance(strategy, Staged) and isinstance(strategy, Sparing)
    best = max(episodes[: EPISODES // 2], key=lambda e: e.evaluation.accuracy).policy
    assert starts == [None] * (EPISODES // 2) + [best] * (EPISODES // 2)
    for episode in episodes[EPISODES // 2 :]:
        assert episode.policy.pruning_digest() == best.pruning_digest()
        assert episode.evaluation.size_bytes <= made.target


def test_the_guaranteed_form_learns_accuracy_and_what_is_left_together() -> None:
    strategy, episodes, _ = searched(a_problem(form="guaranteed", counts="macs", first=0.75))
    first = episodes[: round(0.75 * EPISODES)]
    rewards = [
        strategy.pruning.reward(
            replace(e.evaluation, macs=round(sum(strategy._left(e.policy).values())))
        )
        for e in first
    ]
    assert strategy.best is not None and strategy.best[0] == max(rewards)
    assert len({left(e.policy) for e in first}) > 3


def test_nothing_is_measured_before_the_second_stage_nor_what_promises_less() -> None:
    made = a_problem(left=0.3)
    strategy = make_strategy("two-stage", made)
    assert isinstance(strategy, TwoStage)
    for _ in range(EPISODES // 2):
        policy = strategy.ask()
        assert not strategy.worth(policy, 1.0)
        strategy.tell(policy, evaluate(policy))
    policy = strategy.ask()
    assert strategy.worth(policy, 0.5)
    strategy.tell(policy, evaluate(policy))
    assert not strategy.worth(policy, evaluate(policy).accuracy - 0.01)
    assert strategy.worth(policy, evaluate(policy).accuracy + 0.01)


@pytest.mark.parametrize("settings", [{"left": 0.0}, {"first": 1.5}])
def test_shares_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=r"must lie in \(0, 1\]"):
        make_strategy("two-stage", a_problem(**settings))


def test_both_stages_need_an_episode() -> None:
    with pytest.raises(RecipeError, match="leaves the second stage no episode"):
        make_strategy("two-stage", a_problem(first=1.0))
