"""The cost to aim at: predictions are a little wrong, so the aim moves with what is measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from host.policy import Policy
from host.search.strategy import Problem
from host.types import Evaluation

# How far the aim may move from the target to make up for the prediction's error.
BOUNDS = (0.2, 5.0)
# Amounts by which all actions may move, the smallest first.
SHIFTS = tuple(sorted((i / 50 for i in range(-50, 51)), key=abs))
# A prediction this near to the aim needs no further moving.
NEAR = 0.01


class Goal:
    """A predicted cost, in the problem's unit, whose true one should be the problem's target."""

    def __init__(self, problem: Problem) -> None:
        if problem.layer_cost is None:
            raise ValueError("a goal needs layer_cost predictions")
        self.layer_cost = problem.layer_cost
        self.cost = problem.cost
        self.target = problem.target
        self.value = problem.target

    def predict(self, policy: Policy) -> float:
        """Return the predicted cost of a policy."""
        return sum(self.layer_cost(policy).values())

    def learn(self, policy: Policy, evaluation: Evaluation) -> None:
        """Move the aim by the ratio of target and measurement."""
        ratio = self.target / self.cost.of(evaluation)
        low, high = (bound * self.target for bound in BOUNDS)
        self.value = float(np.clip(self.predict(policy) * ratio, low, high))

    def shift(self, actions: np.ndarray, policy_of: Callable[[np.ndarray], Policy]) -> np.ndarray:
        """Return actions, all moved by one amount, whose policy is predicted to meet the aim.

        Of the amounts that come within a percent of it the smallest, else the nearest one. The
        scan is exhaustive: bit-serial layers of many bits are slower than int8 ones, so that
        costs do not fall steadily.
        """
        best: tuple[float, np.ndarray] | None = None
        for amount in SHIFTS:
            moved = np.clip(actions + amount, 0.0, 1.0)
            miss = abs(self.predict(policy_of(moved)) / self.value - 1.0)
            if best is None or miss < best[0]:
                best = miss, moved
            if miss < NEAR:
                break
        assert best is not None
        return best[1]
