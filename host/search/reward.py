"""One number for one evaluation: accuracy against the target, in whatever unit costs are counted.

Rewards of Galen (arXiv 2212.07818), TuNAS and AMC; the cost is latency unless another one is named.
"""

from __future__ import annotations

import math
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


@REWARDS.register("guaranteed")
def guaranteed(beta: float = GALEN_BETA, cost: Cost = LATENCY) -> Reward:
    """Minus the error times the logarithm of the cost: the less it errs, the less a cost matters.

    AMC's accuracy-guaranteed form (arXiv 1802.03494), with costs in thousandths of the target, so
    that the logarithm stays positive; `beta` counts for nothing.
    """

    def reward(e: Evaluation, target: float) -> float:
        return -(1 - e.accuracy) * math.log(max(1000 * cost.of(e) / target, math.e))

    return reward


@REWARDS.register("one-sided")
def one_sided(beta: float = GALEN_BETA, cost: Cost = LATENCY) -> Reward:
    """Accuracy minus a penalty for costing more than the target; less costs nothing."""

    def reward(e: Evaluation, target: float) -> float:
        return e.accuracy + beta * max(cost.of(e) / target - 1.0, 0.0)

    return reward
