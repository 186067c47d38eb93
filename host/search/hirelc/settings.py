"""All constants of HiReLC: the paper's where nothing else is said; no logic."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from host.errors import RecipeError

Goal = Literal["auto", "cost", "ratio"]
Backend = Literal["stacked", "sb3"]
Three = tuple[float, float, float]
# By level of a block's budget, the gentlest first (section 2.5).
ByLevel = tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class HiReLCSettings:
    """Constants by section of the paper's method; accuracy and its drops are in points (0-100)."""

    # Random configurations before the first cycle; published 50 for ViTs and 100 for CNNs.
    warmup: int = 20
    # What budgets bound: predicted cost or the ratio of bits and channels; "auto" is cost
    # where costs can be predicted.
    goal: Goal = "auto"
    # The target of goal "ratio"; that of "cost" is the problem's.
    target_ratio: float = 0.25
    allowed_drop: float = 1.0
    # Not published: move all layers of an elected configuration alike until its predicted cost
    # meets the target. The published reward weighs accuracy so much that budgets are often missed.
    meet_target: bool = False

    # Ablations: without them budgets are uniform, all blocks equally sensitive, and drops in
    # accuracy come from the proxy alone.
    high_level: bool = True
    sensitivity: bool = True
    surrogate: bool = True
    # Who computes the agents: ours, all at once, or stable-baselines3, one after the other.
    backend: Backend = "stacked"

    # Actions of the low-level agents (2.2).
    max_bits: int = 8
    min_prune: float = 0.0
    max_prune: float = 0.6
    warmup_min_keep: float = 0.6

    # Their episodes, rewards (2.3) and learning (2.4).
    low_steps: int = 256
    low_copies: int = 2
    low_episode_steps: int = 20
    low_alphas: Three = (30.0, 30.0, 30.0)
    low_betas: Three = (1.5, 5.0, 8.0)
    low_gammas: Three = (1.0, 1.0, 1.0)
    low_compression: float = 60.0
    low_budget: float = 20.0
    low_budget_sharpness: float = 10.0
    low_sensitivity: float = 12.0
    low_stability: float = 2.0
    low_stability_rewards: int = 5
    low_ppo_lr: float = 3e-4
    low_ppo_steps: int = 128
    low_ppo_batch: int = 32
    low_ppo_entropy: float = 0.01
    low_a2c_lr: float = 7e-4
    low_a2c_steps: int = 64

    # Budgets by level, gentlest first; the ratios are for a global target of `level_target` and
    # scale with it (2.5).
    level_ratios: ByLevel = (0.35, 0.30, 0.25, 0.20, 0.15)
    level_prunes: ByLevel = (0.2, 0.3, 0.4, 0.6, 0.8)
    level_min_bits: tuple[int, int, int, int, int] = (6, 6, 5, 4, 4)
    level_target: float = 0.25
    # Sensitivities above and below which a block's level moves.
    sensitive: float = 0.7
    robust: float = 0.3

    # The high-level agents' episodes, rewards and learning (2.5).
    high_first_steps: int = 256
    high_steps: int = 512
    high_episode_steps: int = 10
    high_variance: float = 10.0
    high_sensitive: float = 10.0
    high_sensitive_above: float = 0.3
    high_robust: float = 5.0
    high_robust_below: float = 0.2
    high_miss: float = 50.0
    high_excess: float = 50.0
    high_further: float = 20.0
    high_ppo_lr: float = 1e-4
    high_ppo_steps: int = 64
    high_ppo_batch: int = 32
    high_a2c_lr: float = 3e-4
    # The paper states none: stable-baselines3's.
    high_a2c_steps: int = 5

    # The surrogate (2.7), and what stands in for it before it has samples (2.3).
    surrogate_samples: int = 3
    surrogate_first_epochs: int = 100
    surrogate_epochs: int = 50
    surrogate_batch: int = 16
    surrogate_lr: float = 1e-3
    surrogate_decay: float = 1e-4
    surrogate_dropout: float = 0.3
    proxy_scale: float = 20.0
    proxy_cap: float = 50.0

    def __post_init__(self) -> None:
        positive = ("low_steps", "low_copies", "low_episode_steps", "high_episode_steps")
        for name in (*positive, "low_ppo_batch", "high_ppo_batch", "surrogate_batch"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if self.backend == "sb3" and find_spec("stable_baselines3") is None:
            raise RecipeError(
                'backend: "sb3" needs stable-baselines3; '
                "pip install stable-baselines3, or leave the key out"
            )
        if self.warmup < 0:
            raise RecipeError(f"warmup: must not be negative, got {self.warmup}")
        if not 0.0 <= self.min_prune <= self.max_prune < 1.0:
            raise RecipeError("min_prune: needs 0 <= min_prune <= max_prune < 1")
        if not 1 <= min(self.level_min_bits) <= max(self.level_min_bits) <= self.max_bits <= 8:
            raise RecipeError("max_bits: must lie between level_min_bits and 8")
        if not 0.0 < self.target_ratio <= 1.0:
            raise RecipeError(f"target_ratio: must be in (0, 1], got {self.target_ratio}")
