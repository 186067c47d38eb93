"""HiReLC's rewards and its budget correction as formulas over arrays (sections 2.3 and 2.5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host.search.hirelc.settings import HiReLCSettings

Array = NDArray[np.float64]
Levels = NDArray[np.int64]
# What stands in for a reward that is no number.
NO_NUMBER = -10.0


def accuracy_reward(drop: Array) -> Array:
    """Return R_acc by the band that a drop in points falls into."""
    bands = [100.0 + 0.0 * drop, 95.0 - 5.0 * (drop - 1.0), 85.0 - 10.0 * (drop - 2.0)]
    beyond = np.maximum(0.0, 70.0 - 10.0 * (drop - 3.0))
    return np.select([drop < 1.0, drop < 2.0, drop < 3.0], bands, beyond)


@dataclass(frozen=True)
class LowWeights:
    """Weights of the terms of the low-level reward, one row per agent [A, 1]."""

    alpha: Array
    beta: Array
    gamma: Array


@dataclass(frozen=True)
class LowStep:
    """What low-level agents reached: v, target and sensitivity of their block, drop in points.

    All are [A, E] or broadcast to it; `recent` are the episode's last rewards [..., A, E].
    """

    v: Array
    target: Array
    sensitivity: Array
    drop: Array
    recent: Array


def low_reward(step: LowStep, weights: LowWeights, s: HiReLCSettings) -> Array:
    """Return r = alpha R_acc + beta R_comp + R_budget + gamma R_stab - P_sens, [A, E]."""
    compression = s.low_compression * (1.0 - step.v)
    miss = np.abs(step.v - step.target)
    budget = s.low_budget * np.exp(-s.low_budget_sharpness * miss)
    stability = np.zeros_like(step.v)
    if len(step.recent):
        stability = -s.low_stability * step.recent.std(axis=0)
    penalty = s.low_sensitivity * (1.0 - step.v) * step.sensitivity
    accuracy = weights.alpha * accuracy_reward(step.drop)
    total = accuracy + weights.beta * compression + budget + weights.gamma * stability - penalty
    return np.where(np.isfinite(total), total, NO_NUMBER)


def corrected(levels: Levels, sensitivity: Array, s: HiReLCSettings) -> Levels:
    """Return levels [..., N], one gentler for sensitive blocks and one harder for robust ones."""
    shift = np.where(sensitivity > s.sensitive, -1, np.where(sensitivity < s.robust, 1, 0))
    return np.clip(levels + shift, 0, len(s.level_ratios) - 1)


def max_drops(sensitivity: Array) -> Array:
    """Return the drop in points that each block may cost at most."""
    return np.where(sensitivity > 0.7, 0.5, np.where(sensitivity > 0.5, 1.0, 2.0))


@dataclass(frozen=True, slots=True)
class Feedback:
    """What the last cycle came to: drop in points, compression of the whole network, progress.

    `known` is false before the first cycle; `progress` is in [0, 1].
    """

    drop: float = 0.0
    compression: float = 1.0
    progress: float = 0.0
    known: bool = False


@dataclass(frozen=True)
class HighTask:
    """What high-level agents weigh: sensitivities [N], shares of the mean [N], global target."""

    sensitivity: Array
    shares: Array
    target: float
    feedback: Feedback


def high_reward(targets: Array, task: HighTask, s: HiReLCSettings) -> Array:
    """Return the reward of block targets [..., N].

    The paper's thresholds are for its global target of 0.25: targets are scaled to that one.
    """
    scale = s.level_target / task.target
    t, mean = targets * scale, (targets * task.shares).sum(-1) * scale
    high, low = task.sensitivity > s.sensitive, task.sensitivity < s.robust
    gentle = s.high_sensitive * (t - s.high_sensitive_above)
    hard = s.high_robust * (s.high_robust_below - t)
    by_block = np.where(high & (gentle > 0), gentle, 0.0) + np.where(low & (hard > 0), hard, 0.0)
    miss = s.high_miss * np.abs(mean - s.level_target)
    total = by_block.sum(-1) - s.high_variance * t.var(-1) - miss
    return np.asarray(total + dynamic_term(mean, task.feedback, scale, s))


def dynamic_term(mean: Array, last: Feedback, scale: float, s: HiReLCSettings) -> Array:
    """Return what compressing harder than last time is worth after what it came to."""
    if not last.known:
        return np.zeros_like(mean)
    harder = mean < last.compression * scale
    excess = last.drop - s.allowed_drop
    if excess > 0:
        return np.where(harder, -s.high_excess * excess, 0.0)
    if last.compression * scale > s.level_target:
        return np.where(harder, s.high_further, 0.0)
    return np.zeros_like(mean)
