"""Actor-critic agents, many stacked in one set of parameters; what PPO and A2C share.

Every agent has a policy and a value network of its own over a MultiDiscrete action (several
choices, each of some categories). The agents of a stack differ in weights, observations and
choices, but run and learn in one pass: parameters have a leading dimension of agents, and ragged
sizes are padded and masked. Gradients of agents never mix, as the loss is a sum over agents.

Updates are those of stable-baselines3.

Letters of shapes: T steps, A agents, E copies of an agent's environment, O observation, D choices,
C categories, B = samples of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from host.search.agents.networks import Decision, Networks


@dataclass(frozen=True, slots=True)
class ActorCriticSettings:
    """Hyper-parameters that PPO and A2C share; `n_steps` is per copy of the environment."""

    lr: float
    n_steps: int
    gamma: float = 0.99
    gae_lambda: float = 1.0
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5


@dataclass(frozen=True, slots=True)
class Rollout:
    """What a stack saw and did: [T, A, E], observations and actions with one dimension more.

    `ends` is 1 where an episode ended after the step; `last_values` [A, E] are the values of what
    came after the last step.
    """

    observations: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    rewards: Tensor
    ends: Tensor
    last_values: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of a rollout, [A, B], observations and actions with one dimension more."""

    observations: Tensor
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor

    @property
    def samples(self) -> int:
        """Samples per agent."""
        return int(self.returns.shape[1])

    def take(self, places: Tensor) -> Batch:
        """Return the samples at these places."""
        return Batch(*(getattr(self, f.name)[:, places] for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Losses:
    """The terms of every agent's loss, each [A]."""

    policy: Tensor
    value: Tensor
    entropy: Tensor

    def total(self, settings: ActorCriticSettings) -> Tensor:
        """Return the loss of every agent [A]."""
        weighted = settings.ent_coef * self.entropy + settings.vf_coef * self.value
        return self.policy + weighted


class Environment(Protocol):
    """As many copies of a task for every agent of a stack as it wants."""

    def reset(self) -> Tensor:
        """Start all episodes; return observations [A, E, O]."""

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take actions [A, E, D]; return observations, rewards [A, E] and ends [A, E].

        Where an episode ended, the observation is the first one of the next.
        """


class Agents(Protocol):
    """A stack of agents, whatever computes it."""

    @property
    def settings(self) -> ActorCriticSettings:
        """The hyper-parameters."""

    def act(self, observations: Tensor, *, explore: bool = True) -> Decision:
        """Decide for observations [A, B, O]: drawn, or the likeliest where not `explore`."""

    def update(self, rollout: Rollout) -> None:
        """Learn from a rollout."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that a new stack of the same shapes needs to go on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


def train(agents: Agents, environment: Environment, steps: int) -> None:
    """Collect and learn until every agent has taken `steps` steps, over all its copies."""
    observations = environment.reset()
    taken = 0
    while taken < steps:
        rollout, observations = collect(agents, environment, observations)
        agents.update(rollout)
        taken += rollout.rewards.shape[0] * rollout.rewards.shape[2]


def collect(
    agents: Agents, environment: Environment, observations: Tensor
) -> tuple[Rollout, Tensor]:
    """Take `n_steps` steps from where the environment stands; return also what is seen then."""
    steps = []
    for _ in range(agents.settings.n_steps):
        made = agents.act(observations)
        seen, rewards, ends = environment.step(made.actions)
        steps.append((observations, made.actions, made.log_probs, made.values, rewards, ends))
        observations = seen
    columns = [torch.stack(column) for column in zip(*steps, strict=True)]
    columns.append(agents.act(observations, explore=False).values)
    return Rollout(*columns), observations


def advantages(rollout: Rollout, gamma: float, gae_lambda: float) -> Tensor:
    """Return generalised advantage estimates [T, A, E] (Schulman 2016)."""
    going_on = 1.0 - rollout.ends
    following, ahead = rollout.last_values, torch.zeros_like(rollout.last_values)
    found = torch.empty_like(rollout.rewards)
    for t in range(len(found) - 1, -1, -1):
        delta = rollout.rewards[t] + gamma * following * going_on[t] - rollout.values[t]
        ahead = delta + gamma * gae_lambda * going_on[t] * ahead
        found[t] = ahead
        following = rollout.values[t]
    return found


def batch_of(rollout: Rollout, settings: ActorCriticSettings) -> Batch:
    """Return a rollout as samples, copy after copy of the environment."""
    gained = advantages(rollout, settings.gamma, settings.gae_lambda)
    columns = (rollout.observations, rollout.actions, rollout.log_probs, gained)
    flat = [column.movedim(0, 2).flatten(1, 2) for column in (*columns, gained + rollout.values)]
    return Batch(*flat)


def clip_by_agent(gradients: list[Tensor], limit: float) -> None:
    """Scale every agent's gradients, [A, ...] each, in place to a norm of at most `limit`."""
    squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
    scale = (limit / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *(1,) * (gradient.ndim - 1)))


def descend(
    networks: Networks, optimizer: torch.optim.Optimizer, loss: Tensor, limit: float
) -> None:
    """Take one step down the sum of losses [A], every agent's gradient clipped by itself."""
    parameters = list(networks.parameters())
    gradients = list(torch.autograd.grad(loss.sum(), parameters))
    clip_by_agent(gradients, limit)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()


def generator_from(seed: int) -> torch.Generator:
    """Return a generator of our own."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
