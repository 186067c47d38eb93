"""Ensembles of three agents (PPO, A2C, PPO) for many tasks at once, and how they vote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from host.search.agents.a2c import A2C, A2CSettings
from host.search.agents.actor_critic import Agents, Environment, train
from host.search.agents.networks import Shapes
from host.search.agents.ppo import PPO, PPOSettings
from host.search.hirelc.settings import Backend

Indices = NDArray[np.int64]
MEMBERS = 3
PPO_MEMBERS, A2C_MEMBERS = (0, 2), (1,)
# Makes the environments of a stack: the task and the member number of every agent.
MakeEnvironment = Callable[[Indices, Indices], Environment]


@dataclass(frozen=True)
class Part:
    """The agents of one algorithm, with the task and the member number of each."""

    agents: Agents
    tasks: Indices
    members: Indices


@dataclass(frozen=True, slots=True)
class Recipe:
    """What ensembles are made of; `observations` and `choices` are one per task."""

    observations: Sequence[int]
    choices: Sequence[tuple[int, ...]]
    ppo: PPOSettings
    a2c: A2CSettings
    copies: int
    backend: Backend


class Ensembles:
    """One ensemble per task; all agents of one algorithm are one stack."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.tasks = len(recipe.choices)
        self.parts = {
            "ppo": self._part(recipe, recipe.ppo, PPO_MEMBERS, 2 * seed),
            "a2c": self._part(recipe, recipe.a2c, A2C_MEMBERS, 2 * seed + 1),
        }

    def _part(
        self,
        recipe: Recipe,
        settings: PPOSettings | A2CSettings,
        members: tuple[int, ...],
        seed: int,
    ) -> Part:
        tasks = np.tile(np.arange(self.tasks), len(members))
        observations = tuple(recipe.observations[task] for task in tasks)
        shapes = Shapes(observations, tuple(recipe.choices[task] for task in tasks))
        agents = _agents(recipe, shapes, settings, seed)
        return Part(agents, tasks, np.repeat(members, self.tasks))

    def train(self, make: MakeEnvironment, steps: int) -> None:
        """Let every agent take so many steps in environments of its own."""
        for part in self.parts.values():
            train(part.agents, make(part.tasks, part.members), steps)

    def ballots(self, make: MakeEnvironment, *, explore: bool) -> Indices:
        """Return what every member would do at the start of an episode [3, tasks, choices]."""
        found: dict[int, Tensor] = {}
        for part in self.parts.values():
            seen = make(part.tasks, part.members).reset()[:, :1]
            actions = part.agents.act(seen, explore=explore).actions[:, 0]
            for member in np.unique(part.members):
                found[int(member)] = actions[torch.from_numpy(part.members == member)]
        return torch.stack([found[member] for member in range(MEMBERS)]).numpy()

    def state_dict(self) -> dict[str, Any]:
        """Return the agents' states."""
        return {name: part.agents.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for name, part in self.parts.items():
            part.agents.load_state_dict(state[name])


def _agents(
    recipe: Recipe, shapes: Shapes, settings: PPOSettings | A2CSettings, seed: int
) -> Agents:
    if recipe.backend == "sb3":
        from host.search.agents.sb3 import SB3Agents

        return SB3Agents(shapes, settings, recipe.copies, seed)
    if isinstance(settings, PPOSettings):
        return PPO(shapes, settings, seed)
    return A2C(shapes, settings, seed)


def mean_vote(ballots: Indices) -> Indices:
    """Return the rounded mean over members [3, ...], for choices that have an order."""
    return np.asarray(np.rint(ballots.mean(axis=0)), dtype=np.int64)


def majority_vote(ballots: Indices) -> Indices:
    """Return what most members [3, ...] chose, for choices without an order.

    The authors' code averages these numbers too. Where all differ the first member decides.
    """
    agreeing = (ballots[:, None] == ballots[None]).sum(axis=1)
    first = agreeing.argmax(axis=0)
    return np.asarray(np.take_along_axis(ballots, first[None], axis=0)[0])
