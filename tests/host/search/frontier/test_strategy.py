"""The frontier on the toy problem: better than greedy, sparing with the board, legal targets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from host.cost import ENERGY, SIZE, Cost
from host.errors import RecipeError
from host.policy import Policy
from host.search.episode import Episode, best
from host.search.frontier.strategy import Frontier
from host.search.loop import Memory, search
from host.search.strategy import Problem, make_strategy
from host.types import Evaluation, Figure
from tests.host.search.toy import TARGET_MS, evaluate, problem, problem_in

EPISODES, FEW = 30, 12
QUICK = {"generations": 15, "population": 12, "offspring": 12}


def run(made: Problem, name: str) -> list[Episode]:
    strategy = make_strategy(name, made)

    def asked(policy: Policy) -> Evaluation:
        truth = evaluate(policy)
        if not isinstance(strategy, Frontier) or strategy.worth(policy, truth.accuracy):
            return truth
        # Whatever it aims at, an unmeasured program's latency is predicted; bytes are counted.
        figure = strategy.predict(policy)
        unmeasured = replace(truth, latency_ms=figure)
        return unmeasured if made.cost is SIZE else replace(unmeasured, **{made.cost.field: figure})

    nothing = Memory(lambda episode: None, lambda number, state: None)
    return search(made, strategy, asked, nothing)


def test_it_beats_greedy_and_measures_less() -> None:
    ours = run(problem(1, EPISODES, **QUICK), "frontier")
    greedy = run(problem(1, EPISODES), "greedy")
    assert best(ours).reward >= best(greedy).reward
    assert sum(episode.measured for episode in ours) < 0.7 * EPISODES


def test_one_search_serves_several_targets() -> None:
    targets = (0.7 * TARGET_MS, 1.5 * TARGET_MS)
    made = replace(problem(1, EPISODES, **QUICK), targets=targets)
    episodes = run(made, "frontier")
    for target in targets:
        near = [e for e in episodes if e.measured and abs(e.latency_ms / target - 1) < 0.03]
        assert near, f"nothing was measured at {target} ms"


@pytest.mark.parametrize("cost", [ENERGY, SIZE], ids=lambda cost: cost.name)
def test_targets_in_other_costs_are_met(cost: Cost) -> None:
    made = problem_in(cost, 0.3, 1, FEW, **QUICK)
    found = best(run(made, "frontier")).evaluation
    assert cost.of(found) == pytest.approx(0.3 * made.reference, rel=0.03)


def test_only_what_promises_more_is_worth_measuring() -> None:
    made = problem(0, 5, **QUICK)
    strategy = Frontier(made)
    policy = strategy.ask()
    truth = evaluate(policy)
    assert strategy.worth(policy, truth.accuracy)
    strategy.tell(policy, truth)
    assert not strategy.worth(policy, truth.accuracy - 0.1)
    assert strategy.worth(policy, truth.accuracy + 0.1)


def test_predictions_say_that_they_are_some() -> None:
    strategy = Frontier(problem(0, 5, **QUICK))
    figure = strategy.predict(strategy.ask())
    assert figure.source == "predicted"
    assert figure.low is not None and figure.high is not None
    assert figure.low < figure.value < figure.high


def test_measurements_correct_predictions() -> None:
    """A board that is a tenth slower than predicted is predicted so after some measurements."""
    strategy = Frontier(problem(0, 8, **QUICK))
    for _ in range(5):
        policy = strategy.ask()
        truth = evaluate(policy)
        assert truth.latency_ms is not None
        slow = Figure(truth.latency_ms.value * 1.1, "measured")
        strategy.tell(policy, replace(truth, latency_ms=slow))
    policy = strategy.ask()
    truth = evaluate(policy)
    assert truth.latency_ms is not None
    assert strategy.predict(policy).value == pytest.approx(1.1 * truth.latency_ms.value, rel=0.02)


def test_without_predictions_it_says_what_is_missing() -> None:
    with pytest.raises(RecipeError, match="predicted costs are missing"):
        Frontier(replace(problem(0, 5), layer_cost=None))


def test_a_batch_serves_the_targets_in_turn_and_learns_nothing_of_itself() -> None:
    targets = (0.7 * TARGET_MS, 1.5 * TARGET_MS)
    made = replace(problem(1, EPISODES, **QUICK), targets=targets)
    strategy = Frontier(made)
    state = strategy.state_dict()["told"]
    batch = strategy.ask_many(4)
    assert strategy.state_dict()["told"] == state
    times = [strategy.predict(policy).value for policy in batch]
    for i, ms in enumerate(times):
        assert ms == pytest.approx(targets[i % 2], rel=0.05)
    assert len({policy.digest() for policy in batch}) == 4


def test_nothing_is_foretold_before_the_model_is_trusted() -> None:
    made = problem(0, 12, **QUICK, design=5)
    strategy = Frontier(made)
    foretold = []
    for _ in range(7):
        policy = strategy.ask()
        foretold.append(strategy.foretell(policy))
        strategy.tell(policy, evaluate(policy))
    assert [found is None for found in foretold] == [True] * 5 + [False] * 2


def test_foretelling_changes_nothing_and_bounds_what_it_says() -> None:
    policies: list[list[str]] = []
    for foretells in (True, False):
        strategy = Frontier(problem(0, 12, **QUICK, design=5))
        policies.append([])
        for _ in range(8):
            policy = strategy.ask()
            found = strategy.foretell(policy) if foretells else None
            if found is not None:
                assert found.cost is not None
                for expected in (found.accuracy, found.cost):
                    assert expected.low is not None and expected.high is not None
                    assert expected.low < expected.value < expected.high
            strategy.tell(policy, evaluate(policy))
            policies[-1].append(policy.digest())
    assert policies[0] == policies[1]


def test_a_search_that_goes_on_foretells_to_the_last_digit() -> None:
    """Its fits start from the fit before: a new strategy must know what that one found."""
    made = problem(0, 14, **QUICK, design=5)
    strategy, foretold = Frontier(made), []
    for number in range(12):
        if number == 10:
            state = strategy.state_dict()
            strategy = Frontier(made)
            strategy.load_state_dict(state)
        policy = strategy.ask()
        foretold.append(strategy.foretell(policy))
        strategy.tell(policy, evaluate(policy))
    whole, undisturbed = Frontier(made), []
    for _ in range(12):
        policy = whole.ask()
        undisturbed.append(whole.foretell(policy))
        whole.tell(policy, evaluate(policy))
    assert foretold == undisturbed
