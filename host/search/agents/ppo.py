"""Proximal policy optimization (Schulman 2017) of stacked agents, as stable-baselines3 does it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
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

ADAM_EPS = 1e-5


@dataclass(frozen=True, slots=True)
class PPOSettings(ActorCriticSettings):
    """Hyper-parameters; `batch` samples make a step, `clip` bounds the ratio of probabilities."""

    lr: float = 3e-4
    n_steps: int = 2048
    gae_lambda: float = 0.95
    batch: int = 64
    epochs: int = 10
    clip: float = 0.2


class PPO(Stacked):
    """Agents that go over each rollout several times, in minibatches, within a clipped ratio."""

    settings: PPOSettings

    def __init__(self, shapes: Shapes, settings: PPOSettings, seed: int) -> None:
        def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
            return torch.optim.Adam(parameters, settings.lr, eps=ADAM_EPS, fused=True)

        super().__init__(shapes, settings, adam, seed)

    def losses(self, batch: Batch) -> Losses:
        """Return the terms of the loss of every agent."""
        log_probs, entropy, values = self.networks.evaluate(batch.observations, batch.actions)
        gained = batch.advantages
        if batch.samples > 1:
            spread = gained.std(1, keepdim=True) + 1e-8
            gained = (gained - gained.mean(1, keepdim=True)) / spread
        ratio = (log_probs - batch.log_probs).exp()
        clipped = ratio.clamp(1 - self.settings.clip, 1 + self.settings.clip)
        policy = -torch.min(gained * ratio, gained * clipped).mean(1)
        value = F.mse_loss(values, batch.returns, reduction="none").mean(1)
        return Losses(policy, value, -entropy.mean(1))

    def update(self, rollout: Rollout) -> None:
        """Learn from a rollout: all agents see its samples in the same random order."""
        s, batch = self.settings, batch_of(rollout, self.settings)
        for _ in range(s.epochs):
            order = torch.randperm(batch.samples, generator=self.generator)
            for places in torch.split(order, s.batch):
                loss = self.losses(batch.take(places)).total(s)
                descend(self.networks, self.optimizer, loss, s.max_grad_norm)
