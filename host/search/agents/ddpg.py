"""Deep deterministic policy gradient over [0, 1] actions (Lillicrap 2016; Galen's sizes).

Unlike Galen's public code: a terminal mask, a scalar critic, several updates per transition.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from host.search.agents.moments import load_moments, moments
from host.search.agents.replay import Replay


@dataclass(frozen=True, slots=True)
class DDPGSettings:
    """Hyper-parameters; defaults are Galen's where it states one."""

    hidden: tuple[int, int] = (400, 300)
    actor_lr: float = 1e-4
    critic_lr: float = 1e-3
    critic_decay: float = 1e-2
    gamma: float = 0.99
    # Galen's .001 with one update per episode left the targets a third of the way behind.
    tau: float = 0.01
    # Galen's 128 with one update per episode; smaller and more often learned faster (docs).
    batch: int = 64
    capacity: int = 2000
    updates_per_step: int = 2
    warmup_episodes: int = 10
    # Warm-up episodes of the joint agent that follow greedy policies (host.search.demonstrations).
    demonstrations: int = 5
    # Move every walk's actions by one amount so that the predicted latency meets the target.
    meet_target: bool = True
    # Weight of the distance from the best episode's actions in the actor's loss, beside values
    # scaled to one: what a hundred episodes teach the critic leads away from what was measured.
    imitation: float = 100.0
    # Share of warm-up episodes whose steps all draw near one common action: independent draws
    # average out over a deep network, so that uniform policies would never be seen.
    common_share: float = 0.5
    common_sigma: float = 0.1
    sigma: float = 0.5
    sigma_decay: float = 0.95
    # Weight of the newest episode in the moving average that centres rewards; Galen's 0.5 moves
    # every stored reward with each episode.
    baseline_rate: float = 0.05


class Actor(nn.Module):
    """State -> actions in [0, 1]."""

    def __init__(self, states: int, actions: int, hidden: tuple[int, int]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(states, hidden[0]), nn.ReLU(), nn.Linear(hidden[0], hidden[1]), nn.ReLU()
        )
        self.head = nn.Linear(hidden[1], actions)

    def forward(self, state: Tensor) -> Tensor:
        """Return actions [n, actions]."""
        return torch.sigmoid(self.head(self.features(state)))

    def features(self, state: Tensor) -> Tensor:
        """Return what the last hidden layer sees in states: [n, hidden]."""
        seen: Tensor = self.body(state)
        return seen


class Critic(nn.Module):
    """State and actions -> value."""

    def __init__(self, states: int, actions: int, hidden: tuple[int, int]) -> None:
        super().__init__()
        self.state = nn.Linear(states, hidden[0])
        self.action = nn.Linear(actions, hidden[0])
        self.body = nn.Linear(hidden[0], hidden[1])
        self.head = nn.Linear(hidden[1], 1)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """Return values [n, 1]."""
        joined = F.relu(self.state(state) + self.action(action))
        value: Tensor = self.head(F.relu(self.body(joined)))
        return value


class DDPG:
    """An agent that acts layer by layer and learns at the end of an episode."""

    def __init__(self, states: int, actions: int, settings: DDPGSettings, seed: int) -> None:
        self.settings = settings
        self.rng = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = Actor(states, actions, settings.hidden)
            self.critic = Critic(states, actions, settings.hidden)
            nn.init.uniform_(self.actor.head.weight, -3e-3, 3e-3)
            nn.init.uniform_(self.critic.head.weight, -3e-4, 3e-4)
        self.actor_target = copy.deepcopy(self.actor)
        self.critic_target = copy.deepcopy(self.critic)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), settings.actor_lr)
        self.critic_optimizer = torch.optim.Adam(
            self.critic.parameters(), settings.critic_lr, weight_decay=settings.critic_decay
        )
        widths = {"state": states, "action": actions, "reward": 1, "next": states, "end": 1}
        self.replay = Replay(settings.capacity, widths)
        self.episode = 0
        self.baseline: float | None = None
        self.actions = actions
        self.common: np.ndarray | None = None
        # The best episode: its reward, states and actions.
        self.best: dict[str, Any] | None = None

    @property
    def sigma(self) -> float:
        """Present width of the exploration noise."""
        after = max(self.episode - self.settings.warmup_episodes, 0)
        return self.settings.sigma * self.settings.sigma_decay**after

    @torch.no_grad()
    def act(self, state: np.ndarray, *, explore: bool = True) -> np.ndarray:
        """Return actions for one state [features]."""
        if explore and self.episode < self.settings.warmup_episodes:
            return self._warm_up()
        mean = self.actor(torch.as_tensor(state, dtype=torch.float32)[None])[0].double().numpy()
        return truncated_normal(mean, self.sigma, self.rng) if explore else mean

    @torch.no_grad()
    def features(self, state: np.ndarray) -> np.ndarray:
        """Return what the actor sees in one state: [hidden]."""
        seen = self.actor.features(torch.as_tensor(state, dtype=torch.float32)[None])[0]
        found: np.ndarray = seen.numpy()
        return found

    def begin(self) -> None:
        """Start an episode: decide whether its warm-up steps share an action."""
        share = self.rng.random() < self.settings.common_share
        self.common = self.rng.random(self.actions) if share else None

    def _warm_up(self) -> np.ndarray:
        if self.common is None:
            return self.rng.random(self.actions)
        return truncated_normal(self.common, self.settings.common_sigma, self.rng)

    def learn(self, states: np.ndarray, actions: np.ndarray, reward: float) -> None:
        """Store an episode [steps, ...] with its one reward, then update."""
        steps = len(states)
        state = torch.as_tensor(states, dtype=torch.float32)
        if self.best is None or reward > self.best["reward"]:
            taken = torch.as_tensor(actions, dtype=torch.float32)
            self.best = {"reward": reward, "states": state, "actions": taken}
        end = torch.zeros(steps, 1)
        end[-1] = 1.0
        self.replay.add(
            {
                "state": state,
                "action": torch.as_tensor(actions),
                "reward": torch.full((steps, 1), reward),
                "next": torch.cat([state[1:], state[-1:]]),
                "end": end,
            }
        )
        rate = self.settings.baseline_rate
        old = reward if self.baseline is None else self.baseline
        self.baseline = (1 - rate) * old + rate * reward
        self.episode += 1
        if self.episode >= self.settings.warmup_episodes:
            for _ in range(steps * self.settings.updates_per_step):
                self._update(self.baseline)

    def _update(self, baseline: float) -> None:
        s = self.settings
        batch = self.replay.sample(s.batch, self.rng)
        with torch.no_grad():
            future = self.critic_target(batch["next"], self.actor_target(batch["next"]))
            target = batch["reward"] - baseline + s.gamma * (1 - batch["end"]) * future
        critic_loss = F.mse_loss(self.critic(batch["state"], batch["action"]), target)
        self.critic_optimizer.zero_grad()
        critic_loss.backward()  # type: ignore[no-untyped-call]
        self.critic_optimizer.step()
        values = self.critic(batch["state"], self.actor(batch["state"]))
        actor_loss = -values.mean() / (values.detach().abs().mean() + 1e-6)
        if s.imitation and self.best is not None:
            distance = F.mse_loss(self.actor(self.best["states"]), self.best["actions"])
            actor_loss = actor_loss + s.imitation * distance
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        for target_net, net in (
            (self.actor_target, self.actor),
            (self.critic_target, self.critic),
        ):
            with torch.no_grad():
                torch._foreach_lerp_(list(target_net.parameters()), list(net.parameters()), s.tau)

    def state_dict(self) -> dict[str, Any]:
        """Return networks, optimizers, transitions and the generator."""
        return {
            "networks": {name: net.state_dict() for name, net in self._networks().items()},
            "optimizers": {name: moments(opt) for name, opt in self._optimizers().items()},
            "replay": self.replay.state_dict(),
            "rng": self.rng.bit_generator.state,
            "episode": self.episode,
            "baseline": self.baseline,
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for name, net in self._networks().items():
            net.load_state_dict(state["networks"][name])
        for name, optimizer in self._optimizers().items():
            load_moments(optimizer, state["optimizers"][name])
        self.replay.load_state_dict(state["replay"])
        self.rng.bit_generator.state = state["rng"]
        self.episode, self.baseline = int(state["episode"]), state["baseline"]
        self.best = state["best"]

    def _networks(self) -> dict[str, nn.Module]:
        return {
            "actor": self.actor,
            "critic": self.critic,
            "actor_target": self.actor_target,
            "critic_target": self.critic_target,
        }

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"actor": self.actor_optimizer, "critic": self.critic_optimizer}


def truncated_normal(mean: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Draw from a normal cut to [0, 1], by its inverse distribution function."""
    uniform = torch.as_tensor(rng.random(mean.shape))
    centre = torch.as_tensor(mean)
    low = torch.special.ndtr((0.0 - centre) / sigma)
    high = torch.special.ndtr((1.0 - centre) / sigma)
    inside = (low + (high - low) * uniform).clamp(1e-12, 1 - 1e-12)
    drawn: np.ndarray = (centre + sigma * torch.special.ndtri(inside)).clamp(0.0, 1.0).numpy()
    return drawn
