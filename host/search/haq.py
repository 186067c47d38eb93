"""HAQ (Wang et al. 2019, arXiv 1811.08886): bits layer by layer, lowered until the budget is met.

One DDPG agent takes two steps per layer, for the bits of its weights and of its inputs. After the
walk, bits are taken away from the last layer backwards, inputs first, until the predicted cost is
within the budget. The first and the last layer stay int8; all layers stay whole.

Otherwise than published, more bits than the bit-serial kernels have are int8 for weights and inputs
alike, the agent learns from the bits that were evaluated instead of those that it wished for, and
the accuracy is one of validation images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host.errors import RecipeError
from host.policy import INT8_BITS, Choice, Policy
from host.search.agents.ddpg import DDPG
from host.search.layerwise import LayerwiseSettings, layer_table, predicted
from host.search.settings import settings_from
from host.search.strategy import Problem, State, strategy
from host.types import Evaluation

FIGURES = ("index", "depthwise", "in", "out", "stride", "kernel", "params", "positions")
# Steps of a layer, by the place of their bits: weights, then inputs.
WEIGHT, ACT = 0, 1


@dataclass(frozen=True, slots=True)
class HAQSettings(LayerwiseSettings):
    """`[search.agent]` of strategy `haq`."""

    warmup_share: float = 0.05
    sigma_decay: float = 0.99
    least_bits: int = 2


@strategy("haq", settings=HAQSettings, needs=("layer_cost",))
class HAQ:
    """One agent, two steps per layer: weight bits and activation bits."""

    def __init__(self, problem: Problem) -> None:
        self.settings = settings_from(HAQSettings, problem.settings)
        self.problem = problem
        self.layers = problem.space.graph.layers
        inner = range(1, len(self.layers) - 1)
        self.places = [i for i in inner if "mix" in problem.space.modes(self.layers[i])]
        if not self.places:
            raise RecipeError(
                'strategy "haq" chooses bits, and no layer here may have fewer than 8'
            )
        self.table = layer_table(self.layers, FIGURES)
        own = self.settings.during(problem.episodes)
        self.agent = DDPG(len(FIGURES) + 2, 1, own, problem.seed)
        self.trace: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def ask(self) -> Policy:
        """Walk the layers with the actor and its noise, then take bits away."""
        self.agent.begin()
        states, wished = [], np.zeros((len(self.places), 2), dtype=int)
        last = INT8_BITS
        for row, place in enumerate(self.places):
            for step in (WEIGHT, ACT):
                states.append(np.append(self.table[place], [last / INT8_BITS, float(step)]))
                last = self._bits(float(self.agent.act(states[-1])[0]))
                wished[row, step] = last
        bits = self._enforced(wished)
        actions = [[self._action(b)] for b in bits.flatten().tolist()]
        self.trace = np.asarray(states), np.asarray(actions)
        return self.problem.space.policy(self._choices(bits))

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        """Give every step of the last walk the episode's accuracy and update."""
        if self.trace is None:
            raise ValueError("tell before ask")
        self.agent.learn(*self.trace, evaluation.accuracy)
        self.trace = None

    def _bits(self, action: float) -> int:
        """Return the bits that an action in [0, 1] means; each has an equal share of it."""
        least = self.settings.least_bits
        return min(int(least + action * (INT8_BITS - least + 1)), INT8_BITS)

    def _action(self, bits: int) -> float:
        """Return the middle of the actions that mean so many bits."""
        least = self.settings.least_bits
        return (bits - least + 0.5) / (INT8_BITS - least + 1)

    def _enforced(self, bits: NDArray[np.int_]) -> NDArray[np.int_]:
        """Return bits within the budget, or the fewest of all where none are."""
        bits = bits.copy()
        while self._cost(bits) > self.problem.target:
            if (bits <= self.settings.least_bits).all():
                break
            for row, step in np.ndindex(bits.shape):
                at = len(bits) - 1 - row, (ACT, WEIGHT)[step]
                if bits[at] > self.settings.least_bits:
                    bits[at] -= 1
                    if self._cost(bits) <= self.problem.target:
                        break
        return bits

    def _cost(self, bits: NDArray[np.int_]) -> float:
        return sum(predicted(self.problem, self._choices(bits)).values())

    def _choices(self, bits: NDArray[np.int_]) -> dict[str, Choice]:
        """Return the wishes: bits where there are kernels for them, else int8."""
        choices = {x.name: Choice(None, "int8", INT8_BITS, INT8_BITS) for x in self.layers}
        for place, (weight, act) in zip(self.places, bits.tolist(), strict=True):
            if max(weight, act) <= self.problem.space.max_mix_bits:
                choices[self.layers[place].name] = Choice(None, "mix", weight, act)
        return choices

    def state_dict(self) -> State:
        """Return the agent's state."""
        return {"agent": self.agent.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        self.agent.load_state_dict(state["agent"])
