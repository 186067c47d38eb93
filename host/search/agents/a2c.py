"""Advantage actor-critic (Mnih 2016, synchronous) of stacked agents, as stable-baselines3's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from host.search.agents.actor_critic import (
    ActorCriticSettings,
    Batch,
    Losses,
    Rollout,
    batch_of,
    descend,
)
from host.search.agents.networks import Shapes
from host.search.agents.stacked import Stacked

RMSPROP_EPS, RMSPROP_ALPHA = 1e-5, 0.99


@dataclass(frozen=True, slots=True)
class A2CSettings(ActorCriticSettings):
    """Hyper-parameters."""

    lr: float = 7e-4
    n_steps: int = 5


class A2C(Stacked):
    """Agents that take one step per rollout, over all of it."""

    def __init__(self, shapes: Shapes, settings: A2CSettings, seed: int) -> None:
        super().__init__(
            shapes,
            settings,
            lambda p: torch.optim.RMSprop(p, settings.lr, RMSPROP_ALPHA, RMSPROP_EPS),
            seed,
        )

    def losses(self, batch: Batch) -> Losses:
        """Return the terms of the loss of every agent."""
        log_probs, entropy, values = self.networks.evaluate(batch.observations, batch.actions)
        policy = -(batch.advantages * log_probs).mean(1)
        value = F.mse_loss(values, batch.returns, reduction="none").mean(1)
        return Losses(policy, value, -entropy.mean(1))

    def update(self, rollout: Rollout) -> None:
        """Learn from a rollout, in one step."""
        loss = self.losses(batch_of(rollout, self.settings)).total(self.settings)
        descend(self.networks, self.optimizer, loss, self.settings.max_grad_norm)
