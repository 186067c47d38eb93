"""One number for one evaluation: accuracy against the target, in whatever unit costs are counted.

Rewards of Galen (arXiv 2212.07818) and TuNAS; the cost is latency unless another one is named.
"""

from __future__ import annotations

from collections.abc import Callable

from host.cost import LATENCY, Cost
from host.registry import Registry
from host.types import Evaluation

# (evaluation, target in the cost's unit) -> reward
Reward = Callable[[Evaluation, float], float]
REWARDS: Registry[Callable[[float, Cost], Reward]] = Registry("reward")
GALEN_BETA = -3.0


@REWARDS.register("absolute")
def absolute(beta: float = GALEN_BETA, cost: Cost = LATENCY) -> Reward:
    """Accuracy minus a penalty for missing the target in either direction (Galen, TuNAS)."""

    def reward(e: Evaluation, target: float) -> float:
        return e.accuracy + beta * abs(cost.of(e) / target - 1.0)

    return reward


@REWARDS.register("one-sided")
def one_sided(beta: float = GALEN_BETA, cost: Cost = LATENCY) -> Reward:
    """Accuracy minus a penalty for costing more than the target; less costs nothing."""

    def reward(e: Evaluation, target: float) -> float:
        return e.accuracy + beta * max(cost.of(e) / target - 1.0, 0.0)

    return reward
