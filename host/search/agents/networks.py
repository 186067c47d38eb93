"""Policy and value networks of many agents in one set of parameters: stable-baselines3's MlpPolicy.

Parameters have a leading dimension of agents; ragged sizes are padded and masked. Letters of
shapes are those of `actor_critic`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 64
# Gains of the orthogonal initial weights: hidden layers, the actor's last one, the critic's.
HIDDEN_GAIN, ACTOR_GAIN, CRITIC_GAIN = 2**0.5, 0.01, 1.0
# Takes a category out of a softmax without making its entropy 0 x inf.
_NEVER = -1e30


@dataclass(frozen=True, slots=True)
class Shapes:
    """What the agents of a stack see and decide: `choices[agent]` are category counts."""

    observations: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.observations) != len(self.choices):
            raise ValueError("every agent needs the size of its observation and its choices")

    @property
    def agents(self) -> int:
        """How many agents there are."""
        return len(self.observations)

    @property
    def observation(self) -> int:
        """The longest observation."""
        return max(self.observations)

    @property
    def choice(self) -> int:
        """The most choices of an agent."""
        return max(len(own) for own in self.choices)

    @property
    def category(self) -> int:
        """The most categories of a choice."""
        return max(max(own) for own in self.choices)

    def mask(self) -> Tensor:
        """Return which categories exist, bool [A, D, C]."""
        mask = torch.zeros(self.agents, self.choice, self.category, dtype=torch.bool)
        for agent, own in enumerate(self.choices):
            for choice, categories in enumerate(own):
                mask[agent, choice, :categories] = True
        return mask


@dataclass(frozen=True, slots=True)
class Decision:
    """Actions [A, B, D] of a stack, their log-probabilities [A, B] and the values [A, B]."""

    actions: Tensor
    log_probs: Tensor
    values: Tensor


class Networks(nn.Module):
    """Policy and value networks of all agents: two hidden layers of 64 tanh each."""

    def __init__(self, shapes: Shapes, generator: torch.Generator) -> None:
        super().__init__()
        self.shapes = shapes
        self.register_buffer("mask", shapes.mask(), persistent=False)
        self.mask: Tensor
        wide = [HIDDEN] * shapes.agents
        seen = list(shapes.observations)
        self.layers = nn.ParameterDict()
        for name, inputs, gain in (
            ("policy.0", seen, HIDDEN_GAIN),
            ("policy.1", wide, HIDDEN_GAIN),
            ("value.0", seen, HIDDEN_GAIN),
            ("value.1", wide, HIDDEN_GAIN),
        ):
            self._add(name, [_orthogonal(HIDDEN, n, gain, generator) for n in inputs])
        actor = [self._actor(agent, generator) for agent in range(shapes.agents)]
        self._add("policy.2", actor)
        self._add("value.2", [_orthogonal(1, HIDDEN, CRITIC_GAIN, generator) for _ in wide])

    def _add(self, name: str, weights: list[Tensor]) -> None:
        """Stack weights [inputs, outputs] of all agents, padded to the most inputs."""
        inputs = max(len(weight) for weight in weights)
        padded = [F.pad(weight, (0, 0, 0, inputs - len(weight))) for weight in weights]
        key = name.replace(".", "_")
        self.layers[f"{key}_weight"] = nn.Parameter(torch.stack(padded))
        outputs = weights[0].shape[1]
        self.layers[f"{key}_bias"] = nn.Parameter(torch.zeros(len(weights), 1, outputs))

    def _actor(self, agent: int, generator: torch.Generator) -> Tensor:
        """Return the actor's last layer [64, D x C] with columns only where there are categories"""
        weight = torch.zeros(HIDDEN, *self.mask.shape[1:])
        own = int(self.mask[agent].sum())
        weight[:, self.mask[agent]] = _orthogonal(own, HIDDEN, ACTOR_GAIN, generator)
        return weight.flatten(1)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities [A, B, D, C] and values [A, B] for [A, B, O]."""
        logits = self._run("policy", observations)
        logits = logits.reshape(*logits.shape[:2], *self.mask.shape[1:])
        logits = torch.where(self.mask[:, None], logits, _NEVER)
        return logits.log_softmax(3), self._run("value", observations)[..., 0]

    def _run(self, net: str, x: Tensor) -> Tensor:
        layers = self.layers
        for i in range(2):
            x = torch.baddbmm(layers[f"{net}_{i}_bias"], x, layers[f"{net}_{i}_weight"]).tanh()
        return torch.baddbmm(layers[f"{net}_2_bias"], x, layers[f"{net}_2_weight"])

    def evaluate(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-probabilities of actions, entropies and values, each [A, B]."""
        log_probs, values = self(observations)
        entropy = -(log_probs.exp() * log_probs).sum(3)
        exists = self.mask.any(2)[:, None]
        return self._joint(log_probs, actions), (entropy * exists).sum(2), values

    @torch.no_grad()
    def decide(self, observations: Tensor, noise: torch.Generator | None) -> Decision:
        """Draw actions, or take the likeliest ones where there is no noise."""
        log_probs, values = self(observations)
        scores = log_probs
        if noise is not None:
            # Gumbel's trick: the largest noisy log-probability is a draw.
            scores = log_probs - torch.empty_like(log_probs).exponential_(generator=noise).log()
        actions = scores.argmax(3) * self.mask.any(2)[:, None]
        return Decision(actions, self._joint(log_probs, actions), values)

    def _joint(self, log_probs: Tensor, actions: Tensor) -> Tensor:
        """Return the summed log-probability of all choices that exist [A, B]."""
        chosen = log_probs.gather(3, actions[..., None])[..., 0]
        return (chosen * self.mask.any(2)[:, None]).sum(2)


def _orthogonal(outputs: int, inputs: int, gain: float, generator: torch.Generator) -> Tensor:
    """Return an orthogonal weight [inputs, outputs]."""
    weight = torch.empty(outputs, inputs)
    return nn.init.orthogonal_(weight, gain, generator=generator).T.contiguous()
