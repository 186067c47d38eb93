"""HiReLC's formulas as published, its votes and budgets, and searches over a CNN and a ViT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from host.errors import RecipeError
from host.graph import trace
from host.lower.targets import refusal
from host.models import make_network
from host.policy import FULL_BITS, Policy, Space, policy_macs, uncompressed
from host.search.hirelc.ensemble import majority_vote, mean_vote
from host.search.hirelc.high import HighEnvironment, budgets_of, targets_of, uniform_budgets
from host.search.hirelc.low import Budgets, LowEnvironment, LowTask
from host.search.hirelc.rewards import (
    Feedback,
    HighTask,
    LowStep,
    LowWeights,
    accuracy_reward,
    corrected,
    high_reward,
    low_reward,
    max_drops,
)
from host.search.hirelc.settings import HiReLCSettings
from host.search.hirelc.space import (
    BITS,
    CHOICES,
    GRANULARITY,
    PRUNE,
    SCHEME,
    Landscape,
    actions_of,
    bits_of,
    moved,
    prune_of,
    ratio_of,
)
from host.search.hirelc.strategy import HiReLC, block_sensitivity
from host.search.hirelc.surrogate import ColdStart, Surrogate
from host.search.reward import absolute
from host.search.settings import settings_from
from host.search.strategy import Problem
from host.types import Evaluation, Figure, Graph
from tests.host.search import toy
from tests.host.search.test_strategies import QUICK_CYCLE, run

S = HiReLCSettings()
COST = {"goal": "cost"}
RATIO = {"goal": "ratio"}


@cache
def graph_of(name: str) -> Graph:
    shape = (1, 8, 8) if name.startswith("digits") else (3, 32, 32)
    return trace(make_network(name, classes=10, input_shape=shape, seed=0), name, shape, 10)


def problem_of(graph: Graph, episodes: int = 8, **settings: Any) -> Problem:
    """A network that takes time by MACs and bits, and loses accuracy by what is taken away."""

    def layer_cost(policy: Policy) -> Mapping[str, float]:
        macs = policy_macs(graph, policy)
        slow = {"fp32": lambda p: 1.0, "int8": lambda p: 0.5}
        slow["mix"] = lambda p: p.weight_bits * p.act_bits / 64
        return {p.layer: macs[p.layer] / graph.macs * slow[p.mode](p) for p in policy.layers}

    return Problem(
        space=Space(graph, refusal),
        reward=absolute(),
        target=0.3,
        reference=1.0,
        episodes=episodes,
        seed=0,
        layer_cost=layer_cost,
        fisher={layer.name: 1.0 + i for i, layer in enumerate(graph.layers)},
        settings={**QUICK_CYCLE, **settings},
    )


def evaluation_of(problem: Problem, policy: Policy) -> Evaluation:
    assert problem.layer_cost is not None
    bits = np.mean([p.weight_bits for p in policy.layers])
    ms = sum(problem.layer_cost(policy).values())
    return Evaluation(
        accuracy=0.9 - 1 / bits**2,
        samples=1,
        split="validation",
        macs=0,
        bops=0,
        size_bytes=0,
        latency_ms=Figure(ms, "measured"),
    )


def asked(problem: Problem) -> list[Policy]:
    """Run a whole search; return what it asked."""
    strategy, policies = HiReLC(problem), []
    for _ in range(problem.episodes):
        policies.append(strategy.ask())
        strategy.tell(policies[-1], evaluation_of(problem, policies[-1]))
    return policies


def landscape_of(name: str = "digits-cnn", **settings: Any) -> Landscape:
    problem = problem_of(graph_of(name), **settings)
    return Landscape(problem, settings_from(HiReLCSettings, problem.settings))


def random_config(landscape: Landscape, seed: int, count: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    config = np.zeros((count, len(landscape.layers), len(CHOICES)))
    config[..., BITS] = rng.integers(1, 9, config.shape[:2])
    config[..., PRUNE] = rng.uniform(0, 0.8, config.shape[:2]) * (
        rng.random(config.shape[:2]) < 0.8
    )
    return config


class TestLowLevelFormulas:
    def test_bits_of_all_indices_as_published(self) -> None:
        bits = bits_of(np.arange(15.0), np.array(4.0), 8).astype(int).tolist()
        assert bits == [4, 4, 4, 4, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 8]

    def test_prune_amounts_span_what_the_budget_allows(self) -> None:
        amounts = prune_of(np.array([0.0, 7.0, 14.0]), 0.0, np.array(0.6))
        np.testing.assert_allclose(amounts, [0.0, 0.3, 0.6])

    def test_accuracy_reward_by_band(self) -> None:
        drops = np.array([-3.0, 0.99, 1.0, 1.5, 2.0, 2.5, 3.0, 5.0, 50.0])
        expected = [100.0, 100.0, 95.0, 92.5, 85.0, 80.0, 70.0, 50.0, 0.0]
        np.testing.assert_allclose(accuracy_reward(drops), expected)

    def test_the_whole_reward_of_one_step(self) -> None:
        one = np.ones((1, 1))
        recent = np.array([1.0, 3.0]).reshape(2, 1, 1)
        step = LowStep(0.2 * one, 0.3 * one, 0.5 * one, 1.5 * one, recent)
        found = low_reward(step, LowWeights(30 * one, 1.5 * one, one), S)
        terms = 30 * 92.5 + 1.5 * 60 * 0.8 + 20 * np.exp(-1.0) - 2 * 1.0 - 12 * 0.8 * 0.5
        assert float(found[0, 0]) == pytest.approx(terms)

    def test_no_number_earns_minus_ten(self) -> None:
        one = np.ones((1, 1))
        step = LowStep(one, one, one, np.nan * one, np.zeros((0, 1, 1)))
        assert low_reward(step, LowWeights(one, one, one), S).item() == -10.0

    def test_cost_of_a_kernel_is_bits_over_32_times_kept(self) -> None:
        assert ratio_of(np.array(4.0), np.array(0.5)).item() == pytest.approx(1 / 16)


class TestHighLevelFormulas:
    def test_sensitive_blocks_get_gentler_levels_and_robust_ones_harder(self) -> None:
        levels = np.array([[0, 2, 2, 2, 4]])
        sensitivity = np.array([0.9, 0.9, 0.5, 0.1, 0.1])
        assert corrected(levels, sensitivity, S).tolist() == [[0, 1, 2, 3, 4]]

    def test_drops_allowed_by_sensitivity(self) -> None:
        assert max_drops(np.array([0.8, 0.6, 0.5])).tolist() == [0.5, 1.0, 2.0]

    @pytest.mark.parametrize("target", [0.25, 0.5])
    def test_the_whole_reward_of_budgets_at_any_target(self, target: float) -> None:
        """Targets relative to the global one are rewarded as at the paper's 0.25."""
        task = HighTask(np.array([0.9, 0.1, 0.5]), np.full(3, 1 / 3), target, Feedback())
        t = np.array([0.35, 0.15, 0.25])
        expected = -10 * t.var() + 10 * 0.05 + 5 * 0.05 - 50 * abs(t.mean() - 0.25)
        assert high_reward(t * target / 0.25, task, S).item() == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("drop", "last", "expected"),
        [
            (3.0, 0.30, -100.0),  # two points too many, and harder than last time
            (3.0, 0.20, 0.0),
            (0.5, 0.30, 20.0),  # accurate but too large: going on is right
            (0.5, 0.20, 0.0),
        ],
    )
    def test_what_compressing_harder_is_worth(
        self, drop: float, last: float, expected: float
    ) -> None:
        feedback = Feedback(drop, last, 0.5, known=True)
        task = HighTask(np.full(2, 0.5), np.full(2, 0.5), 0.25, feedback)
        assert high_reward(np.array([0.25, 0.25]), task, S).item() == pytest.approx(expected)

    def test_budgets_are_means_over_members(self) -> None:
        task = HighTask(np.array([0.8, 0.6]), np.full(2, 0.5), 0.25, Feedback())
        levels = np.array([[0, 2], [2, 4], [4, 3]])
        budgets = budgets_of(levels, np.array([0, 1]), task, S)
        np.testing.assert_allclose(budgets.targets, [0.25, 0.2])
        # Of a global cap of 0.6 the hardest level keeps 0.6.
        np.testing.assert_allclose(budgets.prunes, [(0.2 + 0.4 + 0.6) / 3, (0.4 + 0.6 + 0.6) / 3])
        assert budgets.min_bits.tolist() == [5, 4]
        assert budgets.max_drops.tolist() == [0.5, 1.0]

    def test_uniform_budgets_ask_the_global_target_of_every_block(self) -> None:
        task = HighTask(np.array([0.9, 0.1]), np.full(2, 0.5), 0.4, Feedback())
        budgets = uniform_budgets(task, S)
        np.testing.assert_allclose(budgets.targets, [0.4, 0.4])
        assert budgets.min_bits.tolist() == [5, 5]

    def test_observations_are_five_numbers_and_two_per_block(self) -> None:
        sensitivity = np.array([0.9, 0.1])
        feedback = Feedback(2.0, 0.4, 0.5, known=True)
        task = HighTask(sensitivity, np.full(2, 0.5), 0.3, feedback)
        environment = HighEnvironment(task, S, 1)
        expected = [0.2, 0.4, 0.5, 0.3, 0.1, 0.9, 0.5, 0.1, 0.5]
        assert environment.reset().flatten().tolist() == pytest.approx(expected)
        seen, _, ends = environment.step(torch.tensor([[[2, 0, 2, 0]]]))
        targets = targets_of(np.array([1, 3]), 0.3, S)
        assert seen[0, 0, [6, 8]].tolist() == pytest.approx(targets.tolist())
        assert not ends.any()
        for _ in range(S.high_episode_steps - 1):
            seen, _, ends = environment.step(torch.zeros(1, 1, 4, dtype=torch.int64))
        assert ends.all()
        assert seen.flatten().tolist() == pytest.approx(expected)


class TestVotes:
    def test_numbers_are_averaged(self) -> None:
        assert mean_vote(np.array([[0, 14], [7, 14], [9, 13]])).tolist() == [5, 14]

    def test_categories_go_by_majority_and_the_first_member_breaks_ties(self) -> None:
        ballots = np.array([[0, 3, 2], [3, 0, 1], [3, 3, 0]])
        assert majority_vote(ballots).tolist() == [3, 3, 2]

    @given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1))
    def test_a_category_that_two_chose_wins(self, columns: list[list[int]]) -> None:
        found = majority_vote(np.array(columns).T)
        for column, chosen in zip(columns, found, strict=True):
            assert column.count(chosen) == max(column.count(c) for c in column)


class TestLandscape:
    @pytest.mark.parametrize("name", ["digits-cnn", "digits-vit", "cifar-resnet20"])
    @pytest.mark.parametrize("seed", range(3))
    def test_costs_by_cost_are_the_predictions_of_the_policy(self, name: str, seed: int) -> None:
        landscape = landscape_of(name, **COST)
        config = random_config(landscape, seed)
        predict = landscape.problem.layer_cost
        assert predict is not None
        for one, found in zip(config, landscape.block_costs(config), strict=True):
            times, whole = predict(landscape.policy(one)), predict(uncompressed(landscape.graph))
            for block, v in zip(landscape.blocks, found, strict=True):
                expected = sum(times[x] for x in block.layers) / sum(whole[x] for x in block.layers)
                assert v == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("name", ["digits-cnn", "digits-vit", "cifar-resnet20"])
    def test_costs_by_ratio_are_those_of_the_policy(self, name: str) -> None:
        landscape = landscape_of(name, **RATIO)
        config = random_config(landscape, 0)
        for one, found in zip(config, landscape.block_costs(config), strict=True):
            policy, graph = landscape.policy(one), landscape.graph
            for block, v in zip(landscape.blocks, found, strict=True):
                forms = [policy[layer] for layer in block.layers]
                shares = [p.weight_bits / 32 * p.keep / graph[p.layer].out_channels for p in forms]
                assert v == pytest.approx(np.mean(shares), rel=1e-9)

    def test_features_are_normalised_and_of_all_blocks(self) -> None:
        landscape = landscape_of("cifar-resnet20")
        config = random_config(landscape, 1)
        config[..., SCHEME], config[..., GRANULARITY] = 1, 3
        features = landscape.features(config)
        assert features.shape == (4, 20 * 5)
        assert features.min() >= 0.0
        assert features.max() <= 1.0
        again = config.copy()
        again[:, -1, BITS] = 3 + (config[:, -1, BITS] == 3)
        assert (landscape.features(again) != features).any()

    def test_bits_above_the_bit_serial_ones_are_int8(self) -> None:
        landscape = Landscape(toy.problem(), S)
        layer = landscape.layers[2]
        modes = {bits: landscape.choice(layer, bits, 0.0).mode for bits in range(1, 9)}
        assert modes == {**dict.fromkeys(range(1, 7), "mix"), 7: "int8", 8: "int8"}

    def test_the_target_is_the_problems_or_a_ratio(self) -> None:
        assert landscape_of(**COST).target == pytest.approx(0.3)
        assert landscape_of(**RATIO).target == 0.25
        blind = replace(problem_of(graph_of("digits-cnn")), layer_cost=None)
        assert not Landscape(blind, S).by_cost
        with pytest.raises(RecipeError, match="needs predicted costs"):
            _ = Landscape(blind, replace(S, goal="cost")).by_cost


class TestLowEnvironment:
    def environment(self, landscape: Landscape, blocks: list[int]) -> LowEnvironment:
        count = len(landscape.blocks)
        budgets = Budgets(
            targets=np.full(count, 0.3),
            prunes=np.full(count, 0.6),
            min_bits=np.full(count, 4.0),
            max_drops=np.ones(count),
            strategies=np.zeros(count, dtype=np.int64),
        )
        task = LowTask(
            landscape,
            budgets,
            np.linspace(0, 1, count),
            landscape.mildest(),
            lambda config: np.full(len(config), 2.5),
            True,
        )
        return LowEnvironment(task, np.array(blocks), np.zeros(len(blocks), dtype=np.int64))

    def test_an_agent_changes_its_own_block_alone(self) -> None:
        landscape = landscape_of("cifar-resnet20")
        environment = self.environment(landscape, [0, 4])
        actions = np.full((2, S.low_copies, 2 * len(CHOICES)), 3)
        config, base = environment.config(actions), landscape.mildest()
        for agent, block in enumerate((0, 4)):
            own = landscape.block_of == block
            assert (config[agent][:, ~own] == base[~own]).all()
            assert (config[agent][:, own, BITS] == 4).all()
            np.testing.assert_allclose(config[agent][:, own, PRUNE], 3 / 14 * 0.6)

    def test_observations_and_rewards_as_published(self) -> None:
        landscape = landscape_of("cifar-resnet20", **RATIO)
        environment = self.environment(landscape, [1])
        first = environment.reset()
        assert first.shape == (1, S.low_copies, 12 + 2)
        sensitivity = 0.1
        start = [1 / 12, sensitivity, 1.0, 0.7, 0.0, 1.0, 0.3, sensitivity, 0.1, 1.0, 1.0, 0.0]
        assert first[0, 0].tolist() == pytest.approx([*start, 0.5, 0.5])
        actions = torch.zeros(1, S.low_copies, 8, dtype=torch.int64)
        seen, rewards, _ = environment.step(actions)
        v = 0.5 * sum(landscape.bits(environment.config(actions.numpy()))[0, 0, 1:3]) / 32
        budget = 20 * np.exp(-10 * abs(v - 0.3))
        expected = 30 * 80 + 1.5 * 60 * (1 - v) + budget - 12 * (1 - v) * sensitivity
        assert float(rewards[0, 0]) == pytest.approx(expected, rel=1e-6)
        assert seen[0, 0, [2, 3, 4, 11]].tolist() == pytest.approx(
            [v, abs(v - 0.3), 0.25, expected / 100], rel=1e-5
        )

    def test_episodes_are_twenty_steps(self) -> None:
        environment = self.environment(landscape_of(), [0, 1])
        environment.reset()
        size = max(environment.task.landscape.kernels) * len(CHOICES)
        actions = torch.zeros(2, S.low_copies, size, dtype=torch.int64)
        ends = [bool(environment.step(actions)[2].all()) for _ in range(40)]
        assert [i + 1 for i, end in enumerate(ends) if end] == [20, 40]


class TestSensitivity:
    def test_a_block_is_the_mean_over_its_parameters(self) -> None:
        problem = problem_of(graph_of("digits-cnn"))
        landscape = Landscape(problem, S)
        found = block_sensitivity(problem, landscape, S)
        means = [
            np.average(
                [problem.fisher[x] for x in block.layers],
                weights=[landscape.graph[x].params for x in block.layers],
            )
            for block in landscape.blocks
        ]
        np.testing.assert_allclose(found, np.array(means) / max(means))

    def test_without_fisher_the_table_counts_and_without_both_nothing_is_known(self) -> None:
        problem = toy.problem()
        landscape = Landscape(problem, S)
        found = block_sensitivity(problem, landscape, S)
        assert found.max() == 1.0
        assert found[0] > found[1] or found[1] == 1.0
        blind = replace(problem, sensitivity={})
        assert block_sensitivity(blind, landscape, S).tolist() == [0.5, 0.5]
        off = replace(S, sensitivity=False)
        assert block_sensitivity(problem, landscape, off).tolist() == [0.5, 0.5]


class TestColdStart:
    def test_the_proxy_is_scaled_and_capped(self) -> None:
        asked_of: list[Policy] = []

        def proxy(policy: Policy) -> float:
            asked_of.append(policy)
            return 0.01 * sum(p.weight_bits < FULL_BITS for p in policy.layers)

        problem = replace(toy.problem(), proxy=proxy)
        landscape = Landscape(problem, S)
        cold = ColdStart(landscape, problem, S)
        config = landscape.mildest()[None]
        assert cold(config).item() == pytest.approx(20 * 0.06)
        before = len(asked_of)
        cold(np.repeat(config, 100, 0))
        assert len(asked_of) == before
        capped = ColdStart(landscape, replace(problem, proxy=lambda _: 9.0), S)
        assert capped(config).item() == 50.0

    def test_without_a_proxy_more_compression_costs_more_by_the_table(self) -> None:
        problem = toy.problem()
        landscape = Landscape(problem, S)
        cold = ColdStart(landscape, problem, S)
        config = np.repeat(landscape.mildest()[None], 3, 0)
        config[1, :, BITS] = 4
        config[2, :, BITS], config[2, :, PRUNE] = 4, 0.5
        drops = cold(config)
        assert drops[0] < drops[1] < drops[2]


class TestSurrogate:
    def test_it_learns_what_configurations_are_worth(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.random((40, 10))
        y = 90 - 30 * x[:, 0]
        surrogate = Surrogate(10, S, 0)
        for row, points in zip(x, y, strict=True):
            surrogate.add(row, points)
        surrogate.fit(300)
        assert np.corrcoef(surrogate.predict(x), y)[0, 1] > 0.8
        assert np.abs(surrogate.predict(x) - y).mean() < y.std()

    def test_a_state_goes_on_exactly(self) -> None:
        one, two = Surrogate(4, S, 0), Surrogate(4, S, 1)
        for points in (50.0, 70.0, 90.0):
            one.add(np.full(4, points / 100), points)
        one.fit(3)
        two.load_state_dict(one.state_dict())
        for surrogate in (one, two):
            surrogate.fit(3)
        x = np.eye(4)
        assert (one.predict(x) == two.predict(x)).all()


class TestSearch:
    @pytest.mark.parametrize("goal", ["cost", "ratio"])
    @pytest.mark.parametrize("name", ["digits-cnn", "digits-vit"])
    def test_it_searches_a_cnn_and_a_vit_unchanged(self, name: str, goal: str) -> None:
        problem = problem_of(graph_of(name), goal=goal)
        policies = asked(problem)
        for policy in policies:
            problem.space.check(policy)
        again = [p.digest() for p in asked(problem)]
        assert again == [p.digest() for p in policies]

    @pytest.mark.parametrize("switch", ["high_level", "sensitivity", "surrogate"])
    def test_every_ablation_searches(self, switch: str) -> None:
        problem = problem_of(graph_of("digits-cnn"), 6, **{switch: False})
        assert len(asked(problem)) == 6

    def test_the_surrogate_is_asked_after_the_warm_up_only(self) -> None:
        problem = problem_of(graph_of("digits-cnn"), 6)
        strategy, flags = HiReLC(problem), []
        for _ in range(6):
            flags.append(strategy.by_surrogate)
            policy = strategy.ask()
            strategy.tell(policy, evaluation_of(problem, policy))
        assert flags == [False] * 4 + [True] * 2
        off = HiReLC(problem_of(graph_of("digits-cnn"), 6, surrogate=False))
        assert len(off.surrogate) == 0
        assert not off.by_surrogate

    def test_the_surrogate_foretells_what_it_was_not_told(self) -> None:
        problem = problem_of(graph_of("digits-cnn"), 6)
        strategy, foretold = HiReLC(problem), []
        for _ in range(6):
            policy = strategy.ask()
            before = strategy.state_dict()["surrogate"]["generator"].clone()
            foretold.append(strategy.foretell(policy))
            assert torch.equal(before, strategy.state_dict()["surrogate"]["generator"])
            strategy.tell(policy, evaluation_of(problem, policy))
        assert [found is None for found in foretold] == [True] * 4 + [False] * 2
        assert problem.layer_cost is not None
        last = foretold[-1]
        assert last is not None and last.cost is not None
        assert 0.0 < last.accuracy.value < 1.0
        assert last.accuracy.low is None, "a network states no interval"
        assert last.cost.value == pytest.approx(sum(problem.layer_cost(policy).values()))

    def test_the_first_policy_is_whole_and_int8(self) -> None:
        problem = problem_of(graph_of("digits-cnn"), 1)
        for p, layer in zip(asked(problem)[0].layers, problem.space.graph.layers, strict=True):
            assert p.keep == layer.out_channels
            assert p.mode == "int8"

    @pytest.mark.parametrize(("cut", "between"), [(0, True), (3, False), (5, False), (5, True)])
    def test_a_state_at_any_point_goes_on_exactly(self, cut: int, between: bool) -> None:
        """Also between being asked and being told."""
        problem = problem_of(graph_of("digits-cnn"), 7, meet_target=cut == 5)
        whole = asked(problem)
        strategy, policies = HiReLC(problem), []
        for number in range(7):
            if number == cut:
                if between:
                    strategy.ask()
                state = strategy.state_dict()
                strategy = HiReLC(problem)
                strategy.load_state_dict(state)
            policies.append(strategy.ask())
            strategy.tell(policies[-1], evaluation_of(problem, policies[-1]))
        assert [p.digest() for p in policies] == [p.digest() for p in whole]

    @settings(max_examples=6, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        target=st.floats(0.05, 1.0),
        warmup=st.integers(0, 3),
        max_prune=st.floats(0.0, 0.9),
        high_level=st.booleans(),
    )
    def test_every_policy_is_legal(
        self, seed: int, target: float, warmup: int, max_prune: float, high_level: bool
    ) -> None:
        problem = problem_of(
            graph_of("digits-cnn"), 4, warmup=warmup, max_prune=max_prune, high_level=high_level
        )
        problem = replace(problem, seed=seed, target=target)
        for policy in asked(problem):
            problem.space.check(policy)

    def test_on_request_what_is_elected_is_moved_onto_the_target(self) -> None:
        made = toy.problem(0, 16, **QUICK_CYCLE, meet_target=True)
        strategy, rewards, misses = HiReLC(made), [], []
        for _ in range(made.episodes):
            policy = strategy.ask()
            strategy.tell(policy, toy.evaluate(policy))
            rewards.append(made.score(toy.evaluate(policy)))
            misses.append(abs(sum(toy.layer_cost(policy).values()) / made.target - 1.0))
        # Widths of few steps cannot all be met.
        assert np.median(misses[1:]) < 0.1
        chance = np.mean([e.reward for e in run("random", 60)])
        assert np.mean(rewards[-8:]) > chance

    def test_moving_by_nothing_changes_nothing(self) -> None:
        landscape = landscape_of()
        config = random_config(landscape, 0)[0]
        config[:, BITS] = np.maximum(config[:, BITS], min(S.level_min_bits))
        again = moved(config, actions_of(config, S), S)
        np.testing.assert_allclose(again, config, atol=1e-12)

    def test_the_backend_of_the_reference_searches_too(self) -> None:
        pytest.importorskip("stable_baselines3")
        problem = problem_of(graph_of("digits-cnn"), 5, backend="sb3")
        first, again = asked(problem), asked(problem)
        assert [p.digest() for p in first] == [p.digest() for p in again]

    def test_it_draws_from_no_global_generator(self) -> None:
        torch_before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
        asked(problem_of(graph_of("digits-cnn"), 6))
        assert torch.equal(torch_before, torch.random.get_rng_state())
        assert (numpy_before == np.random.get_state()[1]).all()


class TestSettings:
    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ({"warmupp": 3}, 'search.agent.warmupp: unknown key; did you mean "warmup"'),
            ({"goal": "speed"}, "search.agent.goal: unknown value 'speed'"),
            ({"level_ratios": [0.1]}, "search.agent.level_ratios: takes a list of 5 values"),
            ({"warmup": -1}, "search.agent.warmup: must not be negative"),
            ({"low_steps": 1.5}, "search.agent.low_steps: got 1.5"),
            ({"max_prune": 1.0}, "search.agent.min_prune"),
        ],
    )
    def test_what_makes_no_sense_is_refused_by_its_path(
        self, table: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(RecipeError) as refused:
            settings_from(HiReLCSettings, table)
        assert message in str(refused.value)

    def test_a_backend_that_is_not_installed_says_what_to_do(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import sys

        monkeypatch.setitem(sys.modules, "stable_baselines3", None)
        with pytest.raises(RecipeError, match="pip install stable-baselines3"):
            settings_from(HiReLCSettings, {"backend": "sb3"})
