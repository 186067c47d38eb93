"""Rainbow (Hessel et al. 2018): a deep Q network over a few categories, with all six extensions.

Double and duelling networks, prioritised replay, returns over n steps, noisy layers instead of
random actions, and a distribution of returns over fixed atoms (C51). An episode has one reward, at
its end; nothing is discounted, so that every step's return is that reward. It is kept less the
moving average of the rewards before it: a category that was tried while the others were still poor
would else look worse than it is for ever.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from host.search.agents.moments import load_moments, moments
from host.search.agents.noisy import NoisyLinear
from host.search.agents.replay import PrioritisedReplay

Legal = NDArray[np.bool_]
# No row is so well known that it is never drawn again.
LEAST_SURPRISE = 1e-3


@dataclass(frozen=True, slots=True)
class RainbowSettings:
    """Hyper-parameters; `lowest` and `highest` bound the centred rewards that are told apart."""

    hidden: int = 128
    lr: float = 1e-3
    atoms: int = 51
    lowest: float = -1.0
    highest: float = 1.0
    # Published are 3 of a game's thousands. Here a state does not tell all that was chosen before,
    # and only returns to the end of the episode tell what a choice was worth.
    n_step: int = 1000
    sigma: float = 0.5
    batch: int = 64
    capacity: int = 5000
    alpha: float = 0.5
    # Rises to 1 over so many episodes.
    beta: float = 0.4
    beta_episodes: int = 200
    tau: float = 0.02
    updates_per_step: int = 1
    warmup_episodes: int = 10
    # Weight of the newest episode in the moving average that centres rewards.
    baseline_rate: float = 0.1


class Distribution(nn.Module):
    """State -> log-probabilities of returns for every action: duelling, noisy."""

    def __init__(self, states: int, actions: int, settings: RainbowSettings) -> None:
        super().__init__()
        self.shape = (actions, settings.atoms)
        self.body = nn.Sequential(nn.Linear(states, settings.hidden), nn.ReLU())
        self.value = NoisyLinear(settings.hidden, settings.atoms, settings.sigma)
        self.advantage = NoisyLinear(settings.hidden, actions * settings.atoms, settings.sigma)

    def forward(self, state: Tensor) -> Tensor:
        """Return [n, actions, atoms]."""
        seen = self.body(state)
        advantage = self.advantage(seen).view(-1, *self.shape)
        scores = self.value(seen)[:, None] + advantage - advantage.mean(1, keepdim=True)
        return F.log_softmax(scores, 2)

    def noises(self) -> Iterable[NoisyLinear]:
        """Return the layers that explore."""
        return (self.value, self.advantage)


class Rainbow:
    """An agent that chooses among categories step by step and learns at the end of an episode."""

    def __init__(self, states: int, actions: int, settings: RainbowSettings, seed: int) -> None:
        self.settings, self.actions = settings, actions
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Distribution(states, actions, settings)
        self.target = copy.deepcopy(self.network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), settings.lr)
        widths = {
            "state": states, "action": 1, "reward": 1, "next": states, "end": 1, "legal": actions,
        }  # fmt: skip
        self.replay = PrioritisedReplay(settings.capacity, widths, settings.alpha)
        self.support = torch.linspace(settings.lowest, settings.highest, settings.atoms)
        self.episode = 0
        self.baseline: float | None = None

    @torch.no_grad()
    def act(self, state: NDArray[Any], legal: Legal | None = None, *, explore: bool = True) -> int:
        """Return the action of one state [features], among those that are legal [actions]."""
        allowed = np.ones(self.actions, dtype=bool) if legal is None else legal
        if explore and self.episode < self.settings.warmup_episodes:
            return int(self.rng.choice(np.flatnonzero(allowed)))
        self._noise(self.network, explore)
        values = self._values(self.network(_row(state)))[0]
        return int(values.masked_fill(~torch.from_numpy(allowed), -torch.inf).argmax())

    def learn(
        self, states: NDArray[Any], actions: NDArray[Any], reward: float, legal: Legal | None = None
    ) -> None:
        """Store an episode [steps, ...] with its one reward, then update."""
        steps = len(states)
        allowed = np.ones((steps, self.actions), dtype=bool) if legal is None else legal
        ahead = np.arange(steps) + self.settings.n_step
        ends, ahead = ahead >= steps, np.minimum(ahead, steps - 1)
        state = torch.as_tensor(states, dtype=torch.float32)
        end = torch.as_tensor(ends, dtype=torch.float32)
        before = reward if self.baseline is None else self.baseline
        self.baseline = before + self.settings.baseline_rate * (reward - before)
        self.replay.add(
            {
                "state": state,
                "action": torch.as_tensor(actions),
                "reward": end * (reward - before),
                "next": state[ahead],
                "end": end,
                "legal": torch.as_tensor(allowed[ahead]),
            }
        )
        self.episode += 1
        if self.episode >= self.settings.warmup_episodes:
            for _ in range(steps * self.settings.updates_per_step):
                self._update()

    def _update(self) -> None:
        s = self.settings
        risen = min(self.episode / s.beta_episodes, 1.0)
        places, weights = self.replay.draw(s.batch, s.beta + (1 - s.beta) * risen, self.rng)
        batch = self.replay.rows(places)
        for network in (self.network, self.target):
            self._noise(network, True)
        wanted = self._projected(batch)
        action = batch["action"].long()[:, :, None].expand(-1, -1, s.atoms)
        loss = -(wanted * self.network(batch["state"]).gather(1, action)[:, 0]).sum(1)
        self.optimizer.zero_grad()
        (weights * loss).mean().backward()
        self.optimizer.step()
        # What is wanted has an entropy of its own, which no network can learn away.
        gap = loss.detach() + torch.special.xlogy(wanted, wanted).sum(1)
        self.replay.surprise(places, gap.clamp_min(0.0) + LEAST_SURPRISE)
        with torch.no_grad():
            pairs = zip(self.target.parameters(), self.network.parameters(), strict=True)
            for target, own in pairs:
                target.lerp_(own, s.tau)

    @torch.no_grad()
    def _projected(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the target's distributions, moved by the rewards, on the atoms: [n, atoms]."""
        s, support = self.settings, self.support
        scores = self._values(self.network(batch["next"]))
        best = scores.masked_fill(batch["legal"] == 0, -torch.inf).argmax(1)
        ahead = self.target(batch["next"]).exp()[torch.arange(len(best)), best]
        moved = batch["reward"] + (1 - batch["end"]) * support
        place = (moved.clamp(s.lowest, s.highest) - s.lowest) / (support[1] - support[0])
        place = place.clamp(0, s.atoms - 1)
        below = place.floor()
        share = place - below
        wanted = torch.zeros_like(ahead)
        wanted.scatter_add_(1, below.long(), ahead * (1 - share))
        wanted.scatter_add_(1, place.ceil().long(), ahead * share)
        return wanted

    def _values(self, log_probabilities: Tensor) -> Tensor:
        return log_probabilities.exp() @ self.support

    def _noise(self, network: Distribution, explore: bool) -> None:
        for layer in network.noises():
            if explore:
                layer.draw(self.generator)
            else:
                layer.hush()

    def state_dict(self) -> dict[str, Any]:
        """Return networks, optimizer, transitions and generators."""
        return {
            "network": self.network.state_dict(),
            "target": self.target.state_dict(),
            "moments": moments(self.optimizer),
            "replay": self.replay.state_dict(),
            "rng": self.rng.bit_generator.state,
            "generator": self.generator.get_state(),
            "episode": self.episode,
            "baseline": self.baseline,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        load_moments(self.optimizer, state["moments"])
        self.replay.load_state_dict(state["replay"])
        self.rng.bit_generator.state = state["rng"]
        self.generator.set_state(state["generator"])
        self.episode, self.baseline = int(state["episode"]), state["baseline"]


def _row(state: NDArray[Any]) -> Tensor:
    return torch.as_tensor(state, dtype=torch.float32)[None]
