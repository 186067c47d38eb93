"""What is forecast of policies: accuracy and cost of thousands, the exact prediction of a few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import norm

from host.encoding import Batch, Encoding, Floats
from host.errors import RecipeError
from host.policy import Policy
from host.search.frontier.settings import FrontierSettings
from host.search.strategy import Problem
from host.surrogate.accuracy import AccuracyModel
from host.surrogate.cost import Correction, LayerCosts, ProgramCost, shares
from host.surrogate.scorecard import COVERED, Expected, Foretold

# Beyond this share of a target forecasts are not believed: what they promise costs more than it
# brings, and this is how much more.
NEAR, FAR_PENALTY = 0.01, 10.0


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of one policy."""

    policy: Policy
    accuracy: float
    cost: float
    measured: bool


def predicted_cost(problem: Problem) -> ProgramCost:
    """Return what predicts a program's cost layer by layer: from its kernels where it can."""
    predict = problem.program_cost or problem.layer_cost
    if predict is None:
        raise RecipeError("frontier: predicted costs are missing")
    return predict


class Forecasts:
    """Both surrogates; they learn from what is told, costs from what was measured alone."""

    def __init__(
        self,
        problem: Problem,
        settings: FrontierSettings,
        encoding: Encoding,
        groups: Sequence[Sequence[str]],
        rng: np.random.Generator,
    ) -> None:
        self.problem, self.settings, self.encoding = problem, settings, encoding
        self.program_cost = predicted_cost(problem)
        self.model = AccuracyModel(encoding, groups, encoding.graph.classes, problem.seed)
        self.correction = Correction()
        self._rng = rng

    @cached_property
    def costs(self) -> LayerCosts:
        """The fast model of costs, fitted to planned programs once."""
        return LayerCosts(self.encoding, self.program_cost, self._rng)

    def fit(self, told: Sequence[Told]) -> None:
        """Fit the accuracy model anew, once there is enough to learn from."""
        if self.settings.surrogate and len(told) >= self.settings.design:
            batch = self.encoding.batch([known.policy for known in told])
            self.model.fit(batch, np.asarray([known.accuracy for known in told]))

    def correct(self, told: Told) -> None:
        """Learn by what a measurement differs from the prediction."""
        by_layer = self.program_cost(told.policy)
        ratio = told.cost / sum(by_layer.values())
        self.correction.learn(shares(told.policy, by_layer), ratio)

    def accuracy(self, batch: Batch, number: int, targets: int) -> Floats:
        """Return accuracies [n] as hoped for at evaluation `number`, with so many targets asked."""
        if self.model.ready:
            hope = self.settings.hope[number % len(self.settings.hope)]
            return self.model(batch).accuracy(hope)
        # Nothing tells yet how much a removed channel weighs against a lost bit: try several.
        weight = self.settings.weights[number // targets % len(self.settings.weights)]
        pruning, formats = self.encoding.harm(batch)
        return np.asarray(1 / (1 + weight * pruning.sum(1) + formats.sum(1)))

    def cost(self, policy: Policy) -> tuple[float, float]:
        """Return the predicted cost and its standard deviation."""
        return self.corrected(policy, self.program_cost(policy))

    def corrected(self, policy: Policy, by_layer: Mapping[str, float]) -> tuple[float, float]:
        """Return the same for a policy whose layers are predicted to cost `by_layer`."""
        factor, deviation = self.correction(shares(policy, by_layer))
        total = sum(by_layer.values())
        return total * factor, total * deviation

    def foretell(self, policy: Policy) -> Foretold | None:
        """Return what is expected of a policy; nothing before the accuracy model was fitted."""
        if not self.model.ready:
            return None
        forecast = self.model(self.encoding.batch([policy]))
        low, high = forecast.interval(COVERED)
        accuracy = Expected(float(forecast.accuracy()[0]), float(low[0]), float(high[0]))
        value, deviation = self.cost(policy)
        reach = float(norm.ppf((1 + COVERED) / 2)) * deviation
        return Foretold(accuracy, Expected(value, value - reach, value + reach))

    def reward(self, accuracy: float, cost: float, goal: float) -> float:
        """Return the problem's reward of an accuracy and a cost, for a target."""
        return self.problem.reward(self.problem.cost.forecast(accuracy, cost), goal)

    def score(self, figures: Floats, goal: float) -> Floats:
        """Return the rewards of forecasts [n, 2] for a target, less where they miss it by far."""
        rewards = [self.reward(accuracy, cost, goal) for accuracy, cost in figures.tolist()]
        far = np.maximum(np.abs(figures[:, 1] / goal - 1) - NEAR, 0.0)
        return np.asarray(rewards) - FAR_PENALTY * far

    def state_dict(self) -> dict[str, Any]:
        """Return what told policies do not say; the corrections are told again."""
        # Every fit of the accuracy model starts from what the one before it found.
        return {"costs": self.costs.state_dict(), "noise": self.model.noise}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.costs.load_state_dict(state["costs"])
        self.model.noise = state["noise"]
