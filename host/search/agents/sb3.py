"""The same agents by stable-baselines3 itself, one model each: the published reference, slower.

Needs the package stable-baselines3. The global random generators that it draws from are seeded from
one of ours for the time of a call, and put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from host.search.agents.a2c import RMSPROP_EPS, A2CSettings
from host.search.agents.actor_critic import ActorCriticSettings, Rollout, generator_from
from host.search.agents.moments import load_moments, moments
from host.search.agents.networks import Decision, Shapes
from host.search.agents.ppo import PPOSettings


class SB3Agents:
    """A stack of agents whose networks, losses and updates are stable-baselines3's."""

    def __init__(
        self, shapes: Shapes, settings: ActorCriticSettings, copies: int, seed: int
    ) -> None:
        self.settings = settings
        self.shapes = shapes
        self.generator = generator_from(seed)
        with self._seeded():
            self.models = [
                make_model(settings, observation, choices, copies)
                for observation, choices in zip(shapes.observations, shapes.choices, strict=True)
            ]

    @torch.no_grad()
    def act(self, observations: Tensor, *, explore: bool = True) -> Decision:
        """Decide for observations [A, B, O]: drawn, or the likeliest where not `explore`."""
        rows = []
        with self._seeded():
            for agent, model in enumerate(self.models):
                seen = observations[agent, :, : self.shapes.observations[agent]]
                actions, values, log_probs = model.policy(seen, deterministic=not explore)
                missing = self.shapes.choice - actions.shape[1]
                actions = torch.nn.functional.pad(actions, (0, missing))
                rows.append((actions, log_probs, values.flatten()))
        return Decision(*(torch.stack(column) for column in zip(*rows, strict=True)))

    def update(self, rollout: Rollout) -> None:
        """Learn from a rollout, one model after the other."""
        with self._seeded():
            for agent, model in enumerate(self.models):
                fill(model, rollout, agent, self.shapes)
                model.train()

    def state_dict(self) -> dict[str, Any]:
        """Return parameters, moments and the generator."""
        return {
            "models": [
                {"policy": m.policy.state_dict(), "optimizer": moments(m.policy.optimizer)}
                for m in self.models
            ],
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for model, saved in zip(self.models, state["models"], strict=True):
            model.policy.load_state_dict(saved["policy"])
            load_moments(model.policy.optimizer, saved["optimizer"])
        self.generator.set_state(state["generator"])

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        seed = int(torch.randint(2**31, (1,), generator=self.generator))
        before = np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                np.random.seed(seed)
                yield
        finally:
            np.random.set_state(before)


def make_model(
    settings: ActorCriticSettings, observation: int, choices: Sequence[int], copies: int
) -> Any:
    """Return a model over a MultiDiscrete action, for rollouts of `copies` environments."""
    import stable_baselines3 as sb3

    common: dict[str, Any] = {
        "policy": "MlpPolicy",
        "env": _spaces(observation, choices, copies),
        "learning_rate": settings.lr,
        "n_steps": settings.n_steps,
        "gamma": settings.gamma,
        "gae_lambda": settings.gae_lambda,
        "ent_coef": settings.ent_coef,
        "vf_coef": settings.vf_coef,
        "max_grad_norm": settings.max_grad_norm,
        "device": "cpu",
    }
    if isinstance(settings, PPOSettings):
        size, clip = min(settings.batch, settings.n_steps * copies), settings.clip
        model = sb3.PPO(**common, batch_size=size, n_epochs=settings.epochs, clip_range=clip)
    elif isinstance(settings, A2CSettings):
        model = sb3.A2C(**common, rms_prop_eps=RMSPROP_EPS)
    else:
        raise TypeError(f"no model for {type(settings).__name__}")
    model.set_logger(sb3.common.logger.Logger(folder=None, output_formats=[]))
    return model


def _spaces(observation: int, choices: Sequence[int], copies: int) -> Any:
    """Return environments that only say what is seen and decided; nobody steps them."""
    import gymnasium as gym
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Shape(gym.Env):  # type: ignore[misc]
        observation_space = gym.spaces.Box(-np.inf, np.inf, (observation,))
        action_space = gym.spaces.MultiDiscrete(list(choices))

    return DummyVecEnv([Shape] * copies)


def fill(model: Any, rollout: Rollout, agent: int, shapes: Shapes) -> None:
    """Put one agent's part of a rollout into its model's buffer."""
    buffer = model.rollout_buffer
    buffer.reset()
    steps = len(rollout.rewards)
    starts = torch.cat([torch.ones_like(rollout.ends[:1]), rollout.ends])
    for t in range(steps):
        buffer.add(
            rollout.observations[t, agent, :, : shapes.observations[agent]].numpy(),
            rollout.actions[t, agent, :, : len(shapes.choices[agent])].numpy(),
            rollout.rewards[t, agent].numpy(),
            starts[t, agent].numpy(),
            rollout.values[t, agent],
            rollout.log_probs[t, agent],
        )
    ended = rollout.ends[-1, agent].numpy()
    buffer.compute_returns_and_advantage(rollout.last_values[agent], ended)
