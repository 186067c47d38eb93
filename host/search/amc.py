"""AMC (He et al. 2018, arXiv 1802.03494): channels layer by layer, walled by what a budget leaves.

One DDPG agent walks the layers whose width is a decision. A step keeps at most the channels with
which the budget can still be met when all later layers keep the least: every policy meets the
budget, as far as its cost is predicted. Layers stay fp32.

Otherwise than published, a step decides the outputs of a channel group instead of the inputs of one
layer, since coupled layers agree, and the budget is in whatever unit the search counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from host.errors import RecipeError
from host.policy import Choice, Policy
from host.search.agents.ddpg import DDPG
from host.search.layerwise import LayerwiseSettings, layer_table, predicted
from host.search.reward import GALEN_BETA, guaranteed
from host.search.settings import settings_from
from host.search.strategy import Problem, State, strategy
from host.types import Evaluation, Layer

FIGURES = ("index", "linear", "in", "out", "stride", "kernel", "params")


@dataclass(frozen=True, slots=True)
class AMCSettings(LayerwiseSettings):
    """`[search.agent]` of strategy `amc`.

    With the reward `guaranteed` the agent also learns to cost less than the budget: minus the error
    times the logarithm of the cost.
    """

    least_kept: float = 0.2
    reward: Literal["constrained", "guaranteed"] = "constrained"


@strategy("amc", settings=AMCSettings, needs=("layer_cost",))
class AMC:
    """One agent, one action: the share of a group's channels that stays."""

    def __init__(self, problem: Problem) -> None:
        self.settings = settings_from(AMCSettings, problem.settings)
        self.problem = problem
        space = problem.space
        self.layers = space.graph.layers
        self.places = [i for i, layer in enumerate(self.layers) if space.prunable(layer)]
        if not self.places:
            raise RecipeError('strategy "amc" removes channels, and no layer here may lose any')
        self.table = layer_table(self.layers, FIGURES)
        own = self.settings.during(problem.episodes)
        self.agent = DDPG(len(FIGURES) + 3, 1, own, problem.seed)
        self.trace: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        self.whole = predicted(problem, {})

    def ask(self) -> Policy:
        """Walk the layers with the actor and its noise, behind the wall."""
        self.agent.begin()
        choices: dict[str, Choice] = {}
        states, actions, previous = [], [], 1.0
        for place in self.places:
            layer = self.layers[place]
            states.append(self._state(place, choices, previous))
            wish = float(self.agent.act(states[-1])[0])
            keep = min(self._width(layer, wish), self._most(place, choices))
            choices[layer.name] = Choice(keep)
            # What was taken is learned from, not what was wished for.
            previous = keep / layer.out_channels
            actions.append([self._action(previous)])
        self.trace = np.asarray(states), np.asarray(actions)
        return self.problem.space.policy(choices)

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        """Give every step of the last walk the episode's reward and update."""
        if self.trace is None:
            raise ValueError("tell before ask")
        self.agent.learn(*self.trace, self.reward(evaluation))
        self.trace = None

    def reward(self, evaluation: Evaluation) -> float:
        """Return the reward of an evaluation, in the form that was chosen."""
        if self.settings.reward == "constrained":
            return evaluation.accuracy
        return guaranteed(GALEN_BETA, self.problem.cost)(evaluation, self.problem.reference)

    def _width(self, layer: Layer, action: float) -> int:
        """Return the legal width nearest above what an action in [0, 1] keeps."""
        least = self.settings.least_kept
        wanted = (least + (1 - least) * action) * layer.out_channels
        levels = self.problem.space.keep_levels(layer)
        return next((width for width in levels if width >= wanted), levels[-1])

    def _action(self, share: float) -> float:
        least = self.settings.least_kept
        return float(np.clip((share - least) / (1 - least), 0.0, 1.0))

    def _most(self, place: int, choices: dict[str, Choice]) -> int:
        """Return the most channels with which the budget can still be met, else the least."""
        layer = self.layers[place]
        later = {
            self.layers[i].name: Choice(self._width(self.layers[i], 0.0))
            for i in self.places
            if i > place
        }
        least = self._width(layer, 0.0)
        widths = [w for w in self.problem.space.keep_levels(layer) if w >= least]
        for width in reversed(widths):
            costs = predicted(self.problem, {**choices, **later, layer.name: Choice(width)})
            if sum(costs.values()) <= self.problem.target:
                return width
        return least

    def _state(
        self, place: int, choices: dict[str, Choice], previous: float
    ) -> NDArray[np.float64]:
        costs, whole = predicted(self.problem, choices), sum(self.whole.values())
        before = [layer.name for layer in self.layers[:place]]
        after = [layer.name for layer in self.layers[place + 1 :]]
        reduced = sum(self.whole.get(n, 0.0) - costs.get(n, 0.0) for n in before) / whole
        rest = sum(costs.get(n, 0.0) for n in after) / whole
        return np.append(self.table[place], [reduced, rest, previous])

    def state_dict(self) -> State:
        """Return the agent's state."""
        return {"agent": self.agent.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        self.agent.load_state_dict(state["agent"])
