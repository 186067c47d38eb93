"""A stack of agents with its optimizer and its generator: what PPO and A2C are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from host.search.agents.actor_critic import ActorCriticSettings, generator_from
from host.search.agents.moments import load_moments, moments
from host.search.agents.networks import Decision, Networks, Shapes

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


class Stacked:
    """Networks, optimizer and generator; subclasses say how to update."""

    def __init__(
        self, shapes: Shapes, settings: ActorCriticSettings, optimizer: Optimizer, seed: int
    ) -> None:
        self.settings: ActorCriticSettings = settings
        self.generator = generator_from(seed)
        self.networks = Networks(shapes, self.generator)
        self.optimizer = optimizer(self.networks.parameters())

    def act(self, observations: Tensor, *, explore: bool = True) -> Decision:
        """Decide for observations [A, B, O]: drawn, or the likeliest where not `explore`."""
        return self.networks.decide(observations, self.generator if explore else None)

    def state_dict(self) -> dict[str, Any]:
        """Return parameters, moments and the generator."""
        return {
            "networks": self.networks.state_dict(),
            "optimizer": moments(self.optimizer),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.networks.load_state_dict(state["networks"])
        load_moments(self.optimizer, state["optimizer"])
        self.generator.set_state(state["generator"])
