"""A task with a known answer: each of two contexts has one best category per choice."""

from __future__ import annotations

import torch
from torch import Tensor

from host.search.agents.networks import Shapes

STEPS = 2


class Bandit:
    """`best[agent][step]` are the rewarded categories; a step earns the share it gets right."""

    def __init__(self, shapes: Shapes, copies: int, seed: int = 0) -> None:
        self.shapes, self.copies = shapes, copies
        generator = torch.Generator().manual_seed(seed)
        counts = shapes.mask().sum(2)  # [A, D]
        drawn = torch.rand(STEPS, *counts.shape, generator=generator)
        self.best = (drawn * counts).long()  # [S, A, D]
        self.exists = counts > 0
        self.at = 0

    def reset(self) -> Tensor:
        self.at = 0
        return self._seen()

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        right = (actions == self.best[self.at][:, None]) & self.exists[:, None]
        rewards = right.sum(2) / self.exists.sum(1, keepdim=True)
        self.at = (self.at + 1) % STEPS
        return self._seen(), rewards, torch.full_like(rewards, float(self.at == 0))

    def _seen(self) -> Tensor:
        seen = torch.zeros(self.shapes.agents, self.copies, self.shapes.observation)
        seen[:, :, self.at] = 1.0
        return seen
