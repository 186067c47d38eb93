"""HiReLC's low level: every block's ensemble chooses its kernels' configuration (2.2 to 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from host.search.agents.a2c import A2CSettings
from host.search.agents.ppo import PPOSettings
from host.search.hirelc.ensemble import (
    Ensembles,
    Indices,
    Recipe,
    majority_vote,
    mean_vote,
)
from host.search.hirelc.rewards import LowStep, LowWeights, low_reward
from host.search.hirelc.settings import HiReLCSettings
from host.search.hirelc.space import (
    BITS,
    CHOICES,
    GRANULARITY,
    PRUNE,
    SCHEME,
    Array,
    Landscape,
    bits_of,
    prune_of,
)

# Numbers that a low-level agent sees beside one constant per kernel.
SEEN = 12
# The paper numbers blocks by twelfths; deeper networks by their depth.
DEPTH = 12
Drop = Callable[[Array], Array]


@dataclass(frozen=True)
class Budgets:
    """What the high level allows every block, arrays [blocks].

    `targets` bound v, `prunes` the share of channels pruned; `max_drops` are in points;
    `strategies` are recorded, as in the paper, and bind nobody.
    """

    targets: Array
    prunes: Array
    min_bits: Array
    max_drops: Array
    strategies: NDArray[np.int64]


@dataclass(frozen=True)
class LowTask:
    """What all low-level agents of a cycle share: `base` [layers, 4] is what others' blocks are."""

    landscape: Landscape
    budgets: Budgets
    sensitivity: Array
    base: Array
    drop: Drop
    by_surrogate: bool


def low_ensembles(landscape: Landscape, s: HiReLCSettings, seed: int) -> Ensembles:
    """Return the ensembles of all blocks."""
    kernels = landscape.kernels
    ppo = PPOSettings(
        lr=s.low_ppo_lr, n_steps=s.low_ppo_steps, batch=s.low_ppo_batch, ent_coef=s.low_ppo_entropy
    )
    recipe = Recipe(
        observations=[SEEN + count for count in kernels],
        choices=[CHOICES * count for count in kernels],
        ppo=ppo,
        a2c=A2CSettings(lr=s.low_a2c_lr, n_steps=s.low_a2c_steps),
        copies=s.low_copies,
        backend=s.backend,
    )
    return Ensembles(recipe, seed)


class LowEnvironment:
    """Every agent changes its own block of a copy of the network, and sees what it came to."""

    def __init__(self, task: LowTask, blocks: Indices, members: Indices) -> None:
        self.task, self.blocks = task, blocks
        self.settings = s = task.landscape.settings
        rows = [np.asarray(w)[members][:, None] for w in (s.low_alphas, s.low_betas, s.low_gammas)]
        self.weights = LowWeights(*rows)
        self.shape = (len(blocks), s.low_copies)
        self.target = task.budgets.targets[blocks][:, None]
        self.sensitivity = task.sensitivity[blocks][:, None]
        # Which agent decides which layer, as its how-manieth kernel.
        self.agent, self.layer = np.nonzero(blocks[:, None] == task.landscape.block_of[None])
        self.kernel = task.landscape.kernel_of[self.layer]
        self._start()

    def _start(self) -> None:
        self.at = 0
        self.recent: list[Array] = []
        self.v, self.drop = np.ones(self.shape), np.zeros(self.shape)

    def reset(self) -> Tensor:
        """Start all episodes; return observations [A, E, O]."""
        self._start()
        return self._seen()

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take actions [A, E, choices]; return observations, rewards and ends."""
        s, landscape = self.settings, self.task.landscape
        config = self.config(actions.numpy())
        costs = landscape.block_costs(config)
        self.v = costs[np.arange(len(self.blocks)), :, self.blocks]
        self.drop = self.task.drop(config.reshape(-1, *config.shape[2:])).reshape(self.shape)
        window = np.asarray(self.recent[-s.low_stability_rewards :])
        step = LowStep(self.v, self.target, self.sensitivity, self.drop, window)
        rewards = low_reward(step, self.weights, s)
        self.recent.append(rewards)
        self.at += 1
        ends = torch.full(self.shape, float(self.at == s.low_episode_steps))
        if self.at == s.low_episode_steps:
            self._start()
        return self._seen(), torch.as_tensor(rewards, dtype=torch.float32), ends

    def config(self, actions: Indices) -> Array:
        """Return the configurations [A, E, layers, 4] of actions [A, E, choices]."""
        budgets, s = self.task.budgets, self.settings
        index = actions.reshape(*actions.shape[:2], -1, len(CHOICES))
        own = index[self.agent, :, self.kernel]  # [decided layers, E, 4]
        block = self.blocks[self.agent][:, None]
        config = np.tile(self.task.base, (*actions.shape[:2], 1, 1))
        made = own.astype(np.float64)
        made[..., BITS] = bits_of(made[..., BITS], budgets.min_bits[block], s.max_bits)
        made[..., PRUNE] = prune_of(made[..., PRUNE], s.min_prune, budgets.prunes[block])
        config[self.agent, :, self.layer] = made
        return config

    def _seen(self) -> Tensor:
        """Return observations: twelve numbers, then 0.5 per kernel (section 2.2)."""
        task, budgets = self.task, self.task.budgets
        depth = max(DEPTH, len(task.landscape.blocks))
        last = self.recent[-1] if self.recent else np.zeros(self.shape)
        columns: list[Array | float] = [
            self.blocks[:, None] / depth,
            self.sensitivity,
            self.v,
            np.abs(self.v - self.target),
            self.drop / 10.0,
            1.0,  # the stage of a curriculum that has one stage
            self.target,
            self.sensitivity,  # the priority that the budget gives
            budgets.max_drops[self.blocks][:, None] / 10.0,
            1.0,
            float(task.by_surrogate),
            last / 100.0,
        ]
        seen = np.stack([np.broadcast_to(column, self.shape) for column in columns], axis=-1)
        kernels = np.asarray(task.landscape.kernels)
        exists = np.arange(kernels.max()) < kernels[self.blocks][:, None]
        constants = np.broadcast_to(0.5 * exists[:, None], (*self.shape, kernels.max()))
        return torch.as_tensor(np.concatenate([seen, constants], axis=-1), dtype=torch.float32)


def elected(ensembles: Ensembles, task: LowTask) -> Array:
    """Return the configuration [layers, 4] that every block's members vote for.

    Numbers are averaged over members and rounded; categories go by majority.
    """
    ballots = ensembles.ballots(lambda b, m: LowEnvironment(task, b, m), explore=False)
    by_kernel = ballots.reshape(*ballots.shape[:2], -1, len(CHOICES))
    voted = mean_vote(by_kernel)
    for category in (SCHEME, GRANULARITY):
        voted[..., category] = majority_vote(by_kernel[..., category])
    blocks = np.arange(ensembles.tasks)
    config = LowEnvironment(task, blocks, np.zeros_like(blocks)).config(
        np.repeat(voted.reshape(ensembles.tasks, 1, -1), task.landscape.settings.low_copies, 1)
    )
    places = np.arange(len(task.landscape.layers))
    return np.asarray(config[task.landscape.block_of, 0, places])
