"""What stands for an evaluation while HiReLC's agents learn: a network, or a table before it.

The surrogate (section 2.7) predicts the accuracy of a configuration of ALL blocks from normalised
features. The authors' code gives it one block and fills the others with numbers that it never saw.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from host.search.agents.actor_critic import generator_from
from host.search.agents.moments import load_moments, moments
from host.search.harm import harm
from host.search.hirelc.settings import HiReLCSettings
from host.search.hirelc.space import BITS, PRUNE, Array, Landscape
from host.search.strategy import Problem

HIDDEN = (64, 32)
# Where the table of drops is measured, in shares of channels pruned.
PRUNES = np.linspace(0.0, 0.8, 5)


class Surrogate:
    """Features of a configuration -> accuracy in points, with the samples that it learns from."""

    def __init__(self, features: int, settings: HiReLCSettings, seed: int) -> None:
        self.settings = settings
        self.generator = generator_from(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(
                nn.Linear(inputs, outputs)
                for inputs, outputs in zip((features, *HIDDEN), (*HIDDEN, 1), strict=True)
            )
        self.optimizer = torch.optim.Adam(
            self.layers.parameters(), settings.surrogate_lr, weight_decay=settings.surrogate_decay
        )
        self.seen = torch.zeros(0, features)
        self.points = torch.zeros(0)

    def __len__(self) -> int:
        return len(self.points)

    def add(self, features: Array, points: float) -> None:
        """Remember the features [features] of a configuration and its accuracy in points."""
        row = torch.as_tensor(features, dtype=torch.float32)[None]
        self.seen = torch.cat([self.seen, row])
        self.points = torch.cat([self.points, torch.tensor([points], dtype=torch.float32)])

    @torch.no_grad()
    def predict(self, features: Array) -> Array:
        """Return accuracies in points [n] of features [n, features]."""
        x = torch.as_tensor(features, dtype=torch.float32)
        return np.asarray(self._forward(x, drop=False).double().numpy())

    def fit(self, epochs: int) -> None:
        """Go over all samples in minibatches, mean squared error in points."""
        for _ in range(epochs):
            order = torch.randperm(len(self), generator=self.generator)
            for places in torch.split(order, self.settings.surrogate_batch):
                loss = F.mse_loss(self._forward(self.seen[places], drop=True), self.points[places])
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()

    def _forward(self, x: Tensor, *, drop: bool) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
            x = self._dropout(x) if drop else x
        return 100.0 * torch.sigmoid(last(x))[:, 0]

    def _dropout(self, x: Tensor) -> Tensor:
        """Drop from our own generator; torch's dropout knows only the global one."""
        left = 1.0 - self.settings.surrogate_dropout
        return x * (torch.rand(x.shape, generator=self.generator) < left) / left

    def state_dict(self) -> dict[str, Any]:
        """Return the network, its moments, the samples and the generator."""
        return {
            "layers": self.layers.state_dict(),
            "optimizer": moments(self.optimizer),
            "seen": self.seen,
            "points": self.points,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.layers.load_state_dict(state["layers"])
        load_moments(self.optimizer, state["optimizer"])
        self.seen, self.points = state["seen"], state["points"]
        self.generator.set_state(state["generator"])


class ColdStart:
    """Drops in points before the surrogate has samples: d = min(20 x MSE of the logits, 50).

    The paper runs the network for every step of every agent. Here each setting of each layer is
    tried once, alone, and their errors add up: agents take thousands of steps in a cycle. Without
    a proxy the table of sensitivities takes its place, and without that nothing costs accuracy.
    """

    def __init__(self, landscape: Landscape, problem: Problem, settings: HiReLCSettings) -> None:
        self.landscape, self.problem, self.settings = landscape, problem, settings
        self._known: dict[str, float] = {}
        self._tables: tuple[Array, Array] | None = None

    def __call__(self, config: Array) -> Array:
        """Return drops [n] of configurations [n, layers, 4]."""
        if self._tables is None:
            self._tables = self._measure()
        by_bits, by_prune = self._tables
        layers = np.arange(by_bits.shape[0])
        wished = config[..., BITS].astype(np.int64)
        place = np.clip(config[..., PRUNE] / PRUNES[1], 0.0, len(PRUNES) - 1.0)
        below = np.minimum(place.astype(np.int64), len(PRUNES) - 2)
        part = place - below
        pruned = (1 - part) * by_prune[layers, below] + part * by_prune[layers, below + 1]
        error = (by_bits[layers, wished] + pruned).sum(-1)
        return np.asarray(np.minimum(self.settings.proxy_scale * error, self.settings.proxy_cap))

    def _measure(self) -> tuple[Array, Array]:
        """Return the errors of every layer's bits [layers, 1 + bits] and prunes [layers, 5]."""
        s = self.settings
        lowest = min(s.level_min_bits)
        bits = [max(b, lowest) for b in range(s.max_bits + 1)]
        layers = range(len(self.landscape.layers))
        by_bits = [[self._error(layer, b, 0.0) for b in bits] for layer in layers]
        # Pruned layers are tried in the mildest format, whose own error is taken off.
        by_prune = [
            [self._error(layer, s.max_bits, float(p)) - by_bits[layer][-1] for p in PRUNES]
            for layer in layers
        ]
        return np.asarray(by_bits), np.maximum(np.asarray(by_prune), 0.0)

    def _error(self, place: int, bits: int, prune: float) -> float:
        layer = self.landscape.layers[place]
        wish = self.landscape.choice(layer, bits, prune)
        policy = self.problem.space.policy({layer.name: wish})
        if self.problem.proxy is None:
            legal = policy[layer.name]
            made = type(wish)(wish.keep, legal.mode, legal.weight_bits, legal.act_bits)
            return harm(self.problem.sensitivity.get(layer.name, {}), layer, made)
        digest = policy.digest()
        if digest not in self._known:
            self._known[digest] = float(self.problem.proxy(policy))
        return self._known[digest]
