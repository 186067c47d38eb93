"""HiReLC (arXiv 2606.26002): two levels of agents that share out and spend a compression budget.

After some random configurations every episode is a cycle: the high level gives each block a
budget, each block's low-level ensemble learns on a surrogate of accuracy how to spend it, its
members vote, and one policy is evaluated. Blocks are `host.blocks`; the paper's mistakes of
section 2.10 that lie within the search are repaired: the surrogate sees normalised features of all
blocks, categories go by majority, accuracy drops are from a measured baseline (the first policy,
whole layers in int8), and block sensitivities are means over parameters.

HiReLC knows no hardware. Where costs can be predicted, budgets bound predicted costs here
instead of its ratio of bits and channels (`goal`); budget levels scale with the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch

from host.policy import Policy
from host.search.goal import Goal
from host.search.hirelc.ensemble import Indices
from host.search.hirelc.high import (
    HighEnvironment,
    high_ensemble,
    uniform_budgets,
    voted_budgets,
)
from host.search.hirelc.low import Budgets, LowEnvironment, LowTask, elected, low_ensembles
from host.search.hirelc.rewards import Feedback, HighTask
from host.search.hirelc.settings import HiReLCSettings
from host.search.hirelc.space import (
    BITS,
    CHOICES,
    FEATURES,
    PRUNE,
    Array,
    Landscape,
    actions_of,
    moved,
)
from host.search.hirelc.surrogate import ColdStart, Surrogate
from host.search.settings import settings_from
from host.search.strategy import Problem, State, strategy
from host.surrogate.scorecard import Expected, Foretold
from host.types import Evaluation

# A block of which nothing is known is neither sensitive nor robust.
UNKNOWN = 0.5


@strategy("hirelc", settings=HiReLCSettings, needs=("sensitivity", "layer_cost", "fisher", "proxy"))
class HiReLC:
    """Warm-up, then cycles of budgets, learning, voting and one evaluation."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.settings = s = settings_from(HiReLCSettings, problem.settings)
        self.landscape = Landscape(problem, s)
        self.sensitivity = block_sensitivity(problem, self.landscape, s)
        seeds = np.random.SeedSequence(problem.seed).generate_state(4).tolist()
        self.rng = np.random.default_rng(seeds[0])
        self.surrogate = Surrogate(len(self.landscape.layers) * FEATURES, s, seeds[1])
        self.low = low_ensembles(self.landscape, s, seeds[2])
        self.high = high_ensemble(len(self.landscape.blocks), s, seeds[3])
        self.cold = ColdStart(self.landscape, problem, s)
        aims = s.meet_target and self.landscape.by_cost
        self.goal = Goal(problem) if aims else None
        self.told = 0
        # The best accuracy so far, in points.
        self.baseline: float | None = None
        self.base = self.landscape.mildest()
        self.pending: Array | None = None
        self.feedback = Feedback()

    @property
    def warmup(self) -> int:
        """Random configurations before the first cycle."""
        return min(self.settings.warmup, self.problem.episodes)

    @property
    def by_surrogate(self) -> bool:
        """Whether the surrogate has samples enough to be asked."""
        s = self.settings
        enough = len(self.surrogate) >= s.surrogate_samples and self.told >= self.warmup
        return s.surrogate and enough

    def ask(self) -> Policy:
        """Return the policy of this episode; asked again before it is told, the same one."""
        if self.pending is None:
            made = self._warm_up() if self.told < self.warmup else self._cycle()
            self.pending = self._moved(made) if self.told else made
        return self.landscape.policy(self.pending)

    def _warm_up(self) -> Array:
        """Return a random configuration, as published; the first one is the mildest."""
        config = self.landscape.mildest()
        if self.told == 0:
            return config
        s, layers = self.settings, len(config)
        config[:, BITS] = self.rng.integers(min(s.level_min_bits), s.max_bits + 1, layers)
        config[:, PRUNE] = self.rng.uniform(0.0, 1.0 - s.warmup_min_keep, layers)
        for category in range(PRUNE + 1, len(CHOICES)):
            config[:, category] = self.rng.integers(0, CHOICES[category], layers)
        return config

    def _cycle(self) -> Array:
        """Set budgets, let every block learn to spend its own, and return what is elected."""
        task = LowTask(
            landscape=self.landscape,
            budgets=self._budgets(),
            sensitivity=self.sensitivity,
            base=self.base,
            drop=self._drop,
            by_surrogate=self.by_surrogate,
        )
        self.low.train(partial(LowEnvironment, task), self.settings.low_steps)
        return elected(self.low, task)

    def _moved(self, config: Array) -> Array:
        """Return a configuration, all layers moved alike so that its prediction meets the aim."""
        if self.goal is None:
            return config
        move = partial(moved, config, settings=self.settings)
        actions = self.goal.shift(
            actions_of(config, self.settings), lambda actions: self.landscape.policy(move(actions))
        )
        return move(actions)

    def _budgets(self) -> Budgets:
        s, landscape = self.settings, self.landscape
        task = HighTask(self.sensitivity, landscape.shares, landscape.target, self.feedback)
        if not s.high_level:
            return uniform_budgets(task, s)

        def make(tasks: Indices, members: Indices) -> HighEnvironment:
            return HighEnvironment(task, s, len(tasks))

        self.high.train(make, s.high_steps if self.feedback.known else s.high_first_steps)
        last = self.told + 1 >= self.problem.episodes
        return voted_budgets(self.high, task, s, explore=not last)

    def _drop(self, config: Array) -> Array:
        """Return the predicted drops in points [n] of configurations [n, layers, 4]."""
        if not self.by_surrogate or self.baseline is None:
            return self.cold(config)
        return self.baseline - self.surrogate.predict(self.landscape.features(config))

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        """Add a sample to the surrogate, and tell the high level what its budgets came to."""
        if self.pending is None:
            raise ValueError("tell before ask")
        s, config = self.settings, self.pending
        points = 100.0 * evaluation.accuracy
        self.baseline = points if self.baseline is None else max(self.baseline, points)
        self.surrogate.add(self.landscape.features(config), points)
        self.pending = None
        self.told += 1
        if self.goal is not None:
            self.goal.learn(policy, evaluation)
        if self.told > self.warmup:
            self.base = config
            self.feedback = self._feedback(config, points, evaluation)
        if s.surrogate and self.told >= self.warmup:
            first = self.told == self.warmup
            self.surrogate.fit(s.surrogate_first_epochs if first else s.surrogate_epochs)

    def foretell(self, policy: Policy) -> Foretold | None:
        """Return what the surrogate expects of the policy asked last; it states no interval."""
        if self.pending is None or not self.by_surrogate:
            return None
        points = self.surrogate.predict(self.landscape.features(self.pending)[None])
        return Foretold(Expected(float(points[0]) / 100.0), self._foretold_cost(policy))

    def _foretold_cost(self, policy: Policy) -> Expected | None:
        if self.problem.layer_cost is None:
            return None
        learned = 1.0 if self.goal is None else self.problem.target / self.goal.value
        return Expected(learned * sum(self.problem.layer_cost(policy).values()))

    def _feedback(self, config: Array, points: float, evaluation: Evaluation) -> Feedback:
        assert self.baseline is not None
        compression = float(self.landscape.compression(config))
        if self.landscape.by_cost:
            compression = self.problem.cost.of(evaluation) / self.problem.reference
        cycles = max(self.problem.episodes - self.warmup, 1)
        progress = (self.told - self.warmup) / cycles
        return Feedback(self.baseline - points, compression, progress, known=True)

    def state_dict(self) -> State:
        """Return agents, surrogate, generator and where the search stands."""
        last = self.feedback
        aim = {} if self.goal is None else {"goal": self.goal.value}
        return {
            **aim,
            "low": self.low.state_dict(),
            "high": self.high.state_dict(),
            "surrogate": self.surrogate.state_dict(),
            "rng": self.rng.bit_generator.state,
            "told": self.told,
            "baseline": self.baseline,
            "base": torch.from_numpy(self.base.copy()),
            "pending": None if self.pending is None else torch.from_numpy(self.pending.copy()),
            "feedback": [last.drop, last.compression, last.progress, last.known],
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        for name in ("low", "high", "surrogate"):
            getattr(self, name).load_state_dict(state[name])
        self.rng.bit_generator.state = state["rng"]
        if self.goal is not None:
            self.goal.value = float(state["goal"])
        self.told, self.baseline = int(state["told"]), state["baseline"]
        self.base = state["base"].numpy().copy()
        pending = state["pending"]
        self.pending = None if pending is None else pending.numpy().copy()
        self.feedback = Feedback(*state["feedback"])


def block_sensitivity(problem: Problem, landscape: Landscape, s: HiReLCSettings) -> Array:
    """Return every block's sensitivity [blocks], over that of the most sensitive one.

    The mean over a block's parameters of their Fisher information; where that was not measured,
    the mean over its layers of the table of sensitivities.
    """
    unknown = np.full(len(landscape.blocks), UNKNOWN)
    if not s.sensitivity:
        return unknown
    values = problem.fisher or _table_means(problem)
    weights = {x.name: float(x.params) if problem.fisher else 1.0 for x in landscape.layers}
    means = np.asarray(
        [
            sum(weights[name] * values.get(name, 0.0) for name in block.layers)
            / max(sum(weights[name] for name in block.layers), 1.0)
            for block in landscape.blocks
        ]
    )
    return means / means.max() if means.max() > 0 else unknown


def _table_means(problem: Problem) -> Mapping[str, float]:
    rows = {
        name: [value for values in kinds.values() for value in values]
        for name, kinds in problem.sensitivity.items()
    }
    return {name: float(np.mean(row)) for name, row in rows.items() if row}
