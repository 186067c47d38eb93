"""One number for one evaluation: accuracy against the latency target."""

from __future__ import annotations

from collections.abc import Callable

from host.registry import Registry
from host.types import Evaluation

Reward = Callable[[Evaluation, float], float]
REWARDS: Registry[Callable[[float], Reward]] = Registry("reward")
GALEN_BETA = -3.0


def _latency(e: Evaluation) -> float:
    if e.latency_ms is None:
        raise ValueError("the evaluation holds no latency")
    return e.latency_ms.value


@REWARDS.register("absolute")
def absolute(beta: float = GALEN_BETA) -> Reward:
    """Accuracy minus a penalty for missing the target in either direction (Galen, TuNAS)."""

    def reward(e: Evaluation, target_ms: float) -> float:
        return e.accuracy + beta * abs(_latency(e) / target_ms - 1.0)

    return reward


@REWARDS.register("one-sided")
def one_sided(beta: float = GALEN_BETA) -> Reward:
    """Accuracy minus a penalty for being slower than the target; faster costs nothing."""

    def reward(e: Evaluation, target_ms: float) -> float:
        return e.accuracy + beta * max(_latency(e) / target_ms - 1.0, 0.0)

    return reward
