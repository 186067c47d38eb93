"""The latency to aim at: predictions are a little wrong, so the aim moves with what is measured."""

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
    """A predicted latency, in milliseconds, whose measured one should be the problem's target."""

    def __init__(self, problem: Problem) -> None:
        if problem.layer_ms is None:
            raise ValueError("a latency goal needs layer_ms predictions")
        self.layer_ms = problem.layer_ms
        self.target_ms = problem.target_ms
        self.ms = problem.target_ms

    def predict(self, policy: Policy) -> float:
        """Return the predicted latency of a policy in milliseconds."""
        return sum(self.layer_ms(policy).values())

    def learn(self, policy: Policy, evaluation: Evaluation) -> None:
        """Move the aim by the ratio of target and measurement."""
        if evaluation.latency_ms is not None:
            ratio = self.target_ms / evaluation.latency_ms.value
            low, high = (bound * self.target_ms for bound in BOUNDS)
            self.ms = float(np.clip(self.predict(policy) * ratio, low, high))

    def shift(self, actions: np.ndarray, policy_of: Callable[[np.ndarray], Policy]) -> np.ndarray:
        """Return actions, all moved by one amount, whose policy is predicted to meet the aim.

        Of the amounts that come within a percent of it the smallest, else the nearest one. The
        scan is exhaustive: bit-serial layers of many bits are slower than int8 ones, so that
        latency does not fall steadily.
        """
        best: tuple[float, np.ndarray] | None = None
        for amount in SHIFTS:
            moved = np.clip(actions + amount, 0.0, 1.0)
            miss = abs(self.predict(policy_of(moved)) / self.ms - 1.0)
            if best is None or miss < best[0]:
                best = miss, moved
            if miss < NEAR:
                break
        assert best is not None
        return best[1]
