"""HiReLC's high level: an ensemble that sets every block's budget (section 2.5)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from host.search.agents.a2c import A2CSettings
from host.search.agents.ppo import PPOSettings
from host.search.hirelc.ensemble import MEMBERS, Ensembles, Indices, Recipe, majority_vote
from host.search.hirelc.low import Budgets
from host.search.hirelc.rewards import Array, HighTask, corrected, high_reward, max_drops
from host.search.hirelc.settings import HiReLCSettings

# Numbers that a high-level agent sees beside two per block.
SEEN = 5
# Recorded with a budget, as in the paper.
STRATEGIES = ("quantization", "pruning", "auto")
LEVELS = 5
MIDDLE = LEVELS // 2


def high_ensemble(blocks: int, s: HiReLCSettings, seed: int) -> Ensembles:
    """Return the ensemble of the high level."""
    recipe = Recipe(
        observations=[SEEN + 2 * blocks],
        choices=[(LEVELS, len(STRATEGIES)) * blocks],
        ppo=PPOSettings(lr=s.high_ppo_lr, n_steps=s.high_ppo_steps, batch=s.high_ppo_batch),
        a2c=A2CSettings(lr=s.high_a2c_lr, n_steps=s.high_a2c_steps),
        copies=1,
        backend=s.backend,
    )
    return Ensembles(recipe, seed)


def targets_of(levels: Indices, target: float, s: HiReLCSettings) -> Array:
    """Return the targets of levels; the paper's are for a global target of 0.25."""
    return np.asarray(s.level_ratios)[levels] * target / s.level_target


class HighEnvironment:
    """Every agent gives all blocks a level; nothing is compressed."""

    def __init__(self, task: HighTask, settings: HiReLCSettings, agents: int) -> None:
        self.task, self.settings = task, settings
        self.agents = agents
        self._start()

    def _start(self) -> None:
        self.at = 0
        self.targets = np.full((self.agents, 1, len(self.task.sensitivity)), 0.5)

    def reset(self) -> Tensor:
        """Start all episodes; return observations [A, 1, O]."""
        self._start()
        return self._seen()

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take actions [A, 1, blocks x (level, strategy)]; return observations, rewards, ends."""
        task, s = self.task, self.settings
        levels = corrected(actions.numpy()[..., 0::2], task.sensitivity, s)
        self.targets = targets_of(levels, task.target, s)
        rewards = torch.as_tensor(high_reward(self.targets, task, s), dtype=torch.float32)
        self.at += 1
        ends = torch.full_like(rewards, float(self.at == s.high_episode_steps))
        if self.at == s.high_episode_steps:
            self._start()
        return self._seen(), rewards, ends

    def _seen(self) -> Tensor:
        task, last = self.task, self.task.feedback
        common = [last.drop / 10.0, last.compression, last.progress, task.target]
        common.append(self.settings.allowed_drop / 10.0)
        shape = (self.agents, 1, SEEN)
        by_block = np.stack([np.broadcast_to(task.sensitivity, self.targets.shape), self.targets])
        parts = [
            np.broadcast_to(common, shape),
            by_block.transpose(1, 2, 3, 0).reshape(*shape[:2], -1),
        ]
        return torch.as_tensor(np.concatenate(parts, axis=-1), dtype=torch.float32)


def voted_budgets(
    ensemble: Ensembles, task: HighTask, s: HiReLCSettings, *, explore: bool
) -> Budgets:
    """Return the budgets that the members' levels come to."""
    ballots = ensemble.ballots(
        lambda tasks, members: HighEnvironment(task, s, len(tasks)), explore=explore
    )[:, 0]
    levels = corrected(ballots[:, 0::2], task.sensitivity, s)
    return budgets_of(levels, majority_vote(ballots[:, 1::2]), task, s)


def budgets_of(levels: Indices, strategies: Indices, task: HighTask, s: HiReLCSettings) -> Budgets:
    """Return the mean over members of what their levels [members, blocks] allow."""
    prunes = np.minimum(np.asarray(s.level_prunes), s.max_prune)
    return Budgets(
        targets=targets_of(levels, task.target, s).mean(0),
        prunes=prunes[levels].mean(0),
        min_bits=np.rint(np.asarray(s.level_min_bits)[levels].mean(0)),
        max_drops=max_drops(task.sensitivity),
        strategies=strategies,
    )


def uniform_budgets(task: HighTask, s: HiReLCSettings) -> Budgets:
    """Return the same budget for every block: the middle level, uncorrected."""
    blocks = len(task.sensitivity)
    levels = np.full((MEMBERS, blocks), MIDDLE)
    auto = np.full(blocks, STRATEGIES.index("auto"))
    return budgets_of(levels, auto, task, s)
