"""What agents that walk over layers share: what they see of a layer, and how their DDPG learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from host.errors import RecipeError
from host.policy import Choice
from host.search.agents.ddpg import DDPGSettings
from host.search.strategy import Problem
from host.types import Layer

Floats = NDArray[np.float64]
# Name of a figure -> the figure of a layer and of its place in the network.
FIGURES: dict[str, Callable[[int, Layer], float]] = {
    "index": lambda index, layer: index,
    "linear": lambda index, layer: layer.kind == "linear",
    "depthwise": lambda index, layer: 1 < layer.groups == layer.in_channels,
    "in": lambda index, layer: layer.in_channels,
    "out": lambda index, layer: layer.out_channels,
    "stride": lambda index, layer: layer.stride[0],
    "kernel": lambda index, layer: layer.kernel[0],
    "params": lambda index, layer: layer.params,
    "macs": lambda index, layer: layer.macs,
    "positions": lambda index, layer: layer.positions,
}


@dataclass(frozen=True, slots=True)
class LayerwiseSettings(DDPGSettings):
    """DDPG as in the code of AMC and HAQ: 300 and 300 neurons, no discount, one update a step."""

    hidden: tuple[int, int] = (300, 300)
    critic_decay: float = 0.0
    gamma: float = 1.0
    updates_per_step: int = 1
    demonstrations: int = 0
    meet_target: bool = False
    imitation: float = 0.0
    common_share: float = 0.0
    baseline_rate: float = 0.5
    # AMC's 100 episodes of warm-up are an eighth of its search, HAQ's 20 a thirtieth.
    warmup_share: float = 0.125

    def during(self, episodes: int) -> Self:
        """Return the settings for a search of so many episodes."""
        return replace(self, warmup_episodes=max(round(self.warmup_share * episodes), 1))


def layer_table(layers: Sequence[Layer], figures: Sequence[str]) -> Floats:
    """Return the named figures of all layers: [layers, figures], from 0 (least) to 1 (most).

    A figure that all layers share is 0.
    """
    rows = [[float(FIGURES[name](i, x)) for name in figures] for i, x in enumerate(layers)]
    table = np.asarray(rows).reshape(len(layers), len(figures))
    low, high = table.min(0), table.max(0)
    scaled: Floats = (table - low) / np.where(high > low, high - low, 1.0)
    return scaled


def predicted(problem: Problem, choices: Mapping[str, Choice]) -> dict[str, float]:
    """Return the predicted cost of every layer under some wishes; the others stay as they are."""
    if problem.layer_cost is None:
        raise RecipeError("predicted costs of layers are missing")
    return dict(problem.layer_cost(problem.space.policy(choices)))
