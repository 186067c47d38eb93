"""Diverse pruning (Balaskas et al. 2024, arXiv 2312.15322): a composite agent that saves energy.

Layer by layer DDPG sets how much is pruned and with how many bits the layer computes; Rainbow,
which sees what the actor's last hidden layer makes of the state, chooses by which measure channels
go, or in which pattern single weights do. Both get the one reward of the episode, read off a table
of lost accuracy against saved energy. One shot: nothing is trained, neither during the search nor
after it.

The first policy, whole layers in int8, is the dense network that losses and savings are from.
Coupled layers lose channels together, as decided where the first of them stands; layers whose
channels may not go lose single weights. The energy is that of a modelled accelerator or a board's
own (`search.energy`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from host.errors import RecipeError
from host.policy import INT8_BITS, L1, Choice, Policy, uniform_int8
from host.search.agents.ddpg import DDPG
from host.search.agents.rainbow import Rainbow, RainbowSettings
from host.search.layerwise import LayerwiseSettings, layer_table
from host.search.settings import settings_from
from host.search.strategy import Problem, State, strategy
from host.types import Evaluation, Layer

FIGURES = ("linear", "index", "in", "out", "kernel", "stride", "positions", "params", "macs")
# Energy spent so far, energy that remains, the ratio and the bits before.
MEMORY = 4
# As host.compress.pruners and host.compress.patterns register them, which the search does not
# import: whole channels, then single weights.
COARSE = (L1, "l2", "bernoulli", "median", "reconstruction")
FINE = ("magnitude", "random", "block", "2:4")
ALGORITHMS = (*COARSE, *FINE)
# The pattern 2:4 has one share of zeros.
FIXED_ZEROS = {"2:4": 50}
# Lost points of accuracy and saved shares of energy at which a new row or column begins.
LOSSES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.10)
SAVINGS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# What a row is worth at most; from 5 points on a solution is no use, from 10 it is a failure.
WORTH = (1.0, 0.92, 0.75, 0.55, 0.30, -0.5, -1.0)


@dataclass(frozen=True, slots=True)
class CompositeSettings(LayerwiseSettings):
    """`[search.agent]` of strategy `composite`.

    `rewards` is the table, row by row (7 rows of lost accuracy, 10 columns of saved energy); empty
    for the built-in one. `parts`, `families` and `uniform_bits` take a part of the agent away:
    `ddpg` removes channels by L1 alone, `rainbow` keeps the share `kept` everywhere, in int8;
    `coarse` removes channels alone, `fine` single weights.

    Otherwise than published, rewards between the table's entries are interpolated (`smooth`), half
    of the warm-up takes common ratios, bits and algorithms for all layers, the actor stays near the
    best episode, and the share `loyal` of layers takes that episode's algorithm: as published, 200
    episodes learn next to nothing.
    """

    smooth: bool = True
    common_share: float = 0.5
    imitation: float = 100.0
    loyal: float = 0.8
    sigma: float = 0.2
    sigma_decay: float = 0.985
    least_bits: int = 2
    most_pruned: float = 0.8
    rewards: tuple[float, ...] = ()
    parts: Literal["both", "ddpg", "rainbow"] = "both"
    families: Literal["both", "coarse", "fine"] = "both"
    uniform_bits: int = 0
    kept: float = 0.7
    rainbow_hidden: int = 128
    rainbow_lr: float = 1e-3


def built_in_rewards() -> NDArray[np.float64]:
    """Return the built-in table [losses + 1, savings + 1]; it falls steeply with loss."""
    saved = (np.arange(len(SAVINGS) + 1) + 0.5) / (len(SAVINGS) + 1)
    worth = np.asarray(WORTH)[:, None]
    return np.where(worth > 0, worth * (0.2 + 0.8 * saved), worth * (1 - 0.3 * saved))


def interpolated(table: NDArray[np.float64], lost: float, saved: float) -> float:
    """Return the table's value between its entries, which are reached half-way in a column.

    A row's entries are reached where its losses end, the last row's at twice the last edge; outside
    of these the nearest entry holds.
    """
    middles = (np.arange(len(SAVINGS) + 1) + 0.5) / (len(SAVINGS) + 1)
    by_loss = [float(np.interp(saved, middles, row)) for row in table]
    return float(np.interp(lost, (*LOSSES, 2 * LOSSES[-1]), by_loss))


@strategy("composite", settings=CompositeSettings, needs=("energy",))
class Composite:
    """DDPG for how much, Rainbow for which."""

    def __init__(self, problem: Problem) -> None:
        self.settings = s = settings_from(CompositeSettings, problem.settings)
        if problem.energy is None:
            raise RecipeError("composite: the energy of policies is missing")
        self.problem, self.energy = problem, problem.energy
        self.rewards = _table(s.rewards)
        space = problem.space
        self.layers = space.graph.layers
        self.places = [
            i
            for i, layer in enumerate(self.layers)
            if space.prunable(layer) or space.thins(layer) or len(space.modes(layer)) > 1
        ]
        self.table = layer_table(self.layers, FIGURES)
        own, width = s.during(problem.episodes), len(FIGURES) + MEMORY
        self.ddpg = DDPG(width, 2, own, problem.seed)
        chooser = RainbowSettings(
            hidden=s.rainbow_hidden,
            lr=s.rainbow_lr,
            lowest=-2.0,
            highest=2.0,
            warmup_episodes=own.warmup_episodes,
        )
        self.rainbow = Rainbow(own.hidden[1], len(ALGORITHMS), chooser, problem.seed)
        self.whole = self.energy.shares(space.policy({}))
        self.dense: tuple[float, float] | None = None
        self.trace: _Trace | None = None
        self.common: list[int] | None = None
        # The best episode: its reward and its algorithms.
        self.best: tuple[float, list[int]] | None = None

    def ask(self) -> Policy:
        """Return the dense network first, then walk the layers with both agents."""
        if self.dense is None:
            return uniform_int8(self.problem.space)
        self.ddpg.begin()
        self.common = self._common_order()
        trace, choices = _Trace([], [], [], [], []), dict[str, Choice]()
        ratio, bits = 0.0, float(INT8_BITS)
        for place in self.places:
            layer = self.layers[place]
            state = self._state(place, choices, ratio, bits)
            action = self.ddpg.act(state)
            trace.states.append(state)
            trace.actions.append(action)
            ratio, bits = self._amounts(action)
            choices[layer.name] = self._choice(layer, ratio, round(bits), trace, state)
        self.trace = trace
        return self.problem.space.policy(choices)

    def judge(self, policy: Policy, evaluation: Evaluation) -> float:
        """Return the table's entry against the dense network, which itself loses and saves none."""
        accuracy, dense = self.dense or self._figures(policy, evaluation)
        now, energy = self._figures(policy, evaluation)
        return self.reward(accuracy - now, 1 - energy / dense)

    def _figures(self, policy: Policy, evaluation: Evaluation) -> tuple[float, float]:
        return evaluation.accuracy, self.energy.of(policy, evaluation)

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        """Give both agents the episode's reward."""
        if self.dense is None:
            self.dense = self._figures(policy, evaluation)
            return
        if self.trace is None:
            raise ValueError("tell before ask")
        reward = self.judge(policy, evaluation)
        trace, self.trace = self.trace, None
        if trace.algorithms and (self.best is None or reward > self.best[0]):
            self.best = reward, trace.algorithms
        if self.settings.parts != "rainbow":
            self.ddpg.learn(np.asarray(trace.states), np.asarray(trace.actions), reward)
        else:
            self.ddpg.episode += 1
        if self.settings.parts != "ddpg" and trace.algorithms:
            seen, chosen = np.asarray(trace.seen), np.asarray(trace.algorithms)
            self.rainbow.learn(seen, chosen, reward, np.asarray(trace.legal))

    def reward(self, lost: float, saved: float) -> float:
        """Return what the table says of lost accuracy and saved energy, both as shares."""
        if self.settings.smooth:
            return interpolated(self.rewards, lost, saved)
        # On an edge, a loss still belongs to the milder row, and a saving to the better column.
        row, column = bisect_left(LOSSES, lost), bisect_right(SAVINGS, saved)
        return float(self.rewards[row, column])

    def _chosen(self, step: int, seen: NDArray[np.float64], legal: NDArray[np.bool_]) -> int:
        """Return the algorithm of a step: the episode's common one, the best's, or Rainbow's."""
        if self.common is not None:
            return next(i for i in self.common if legal[i])
        warm = self.ddpg.episode < self.ddpg.settings.warmup_episodes
        if not warm and self.best and self.ddpg.rng.random() < self.settings.loyal:
            return self.best[1][step]
        return self.rainbow.act(seen, legal)

    def _common_order(self) -> list[int] | None:
        """Return in which order all layers prefer algorithms, in episodes of common actions."""
        if self.ddpg.common is None or self.ddpg.episode >= self.ddpg.settings.warmup_episodes:
            return None
        return [int(i) for i in self.ddpg.rng.permutation(len(ALGORITHMS))]

    def _amounts(self, action: NDArray[np.float64]) -> tuple[float, float]:
        """Return the share that is pruned and the bits that two actions mean."""
        s = self.settings
        if s.parts == "rainbow":
            return 1 - s.kept, float(INT8_BITS)
        bits = s.uniform_bits or s.least_bits + float(action[1]) * (INT8_BITS - s.least_bits)
        return s.most_pruned * float(action[0]), float(bits)

    def _choice(
        self, layer: Layer, ratio: float, bits: int, trace: _Trace, state: NDArray[np.float64]
    ) -> Choice:
        space = self.problem.space
        form = Choice(None, "int8", INT8_BITS, INT8_BITS)
        if bits <= space.max_mix_bits:
            form = Choice(None, "mix", bits, bits)
        legal = self._legal(layer)
        if not legal.any():
            return form
        pruner = self._algorithm(trace, state, legal)
        if pruner in COARSE:
            return replace(form, keep=space.keep_for(layer, ratio), pruner=pruner)
        return replace(form, pruner=pruner, zeros=FIXED_ZEROS.get(pruner, round(100 * ratio)))

    def _legal(self, layer: Layer) -> NDArray[np.bool_]:
        """Return which algorithms a layer may take."""
        s, space = self.settings, self.problem.space
        coarse = space.prunable(layer) and s.families != "fine"
        fine = space.thins(layer) and s.families != "coarse" and s.parts != "ddpg"
        return np.repeat([coarse, fine], [len(COARSE), len(FINE)])

    def _algorithm(
        self, trace: _Trace, state: NDArray[np.float64], legal: NDArray[np.bool_]
    ) -> str:
        """Let Rainbow choose by what the actor sees."""
        if self.settings.parts == "ddpg":
            return L1
        seen = self.ddpg.features(state)
        chosen = self._chosen(len(trace.algorithms), seen, legal)
        trace.seen.append(seen)
        trace.algorithms.append(chosen)
        trace.legal.append(legal)
        return ALGORITHMS[chosen]

    def _state(
        self, place: int, choices: dict[str, Choice], ratio: float, bits: float
    ) -> NDArray[np.float64]:
        """Return the 13 features of a layer when those before it are decided."""
        spent = self.energy.shares(self.problem.space.policy(choices))
        before = [layer.name for layer in self.layers[:place]]
        after = [layer.name for layer in self.layers[place:]]
        energies = [sum(spent[n] for n in before), sum(self.whole[n] for n in after)]
        return np.append(self.table[place], [*energies, ratio, bits / INT8_BITS])

    def state_dict(self) -> State:
        """Return both agents and the dense network's figures."""
        return {
            "ddpg": self.ddpg.state_dict(),
            "rainbow": self.rainbow.state_dict(),
            "dense": list(self.dense) if self.dense else None,
            "best": list(self.best) if self.best else None,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        self.ddpg.load_state_dict(state["ddpg"])
        self.rainbow.load_state_dict(state["rainbow"])
        dense, best = state["dense"], state["best"]
        self.best = (float(best[0]), [int(i) for i in best[1]]) if best else None
        self.dense = (float(dense[0]), float(dense[1])) if dense else None


@dataclass(frozen=True, slots=True)
class _Trace:
    """What an episode saw and did: steps of DDPG, and those of Rainbow."""

    states: list[NDArray[np.float64]]
    actions: list[NDArray[np.float64]]
    seen: list[NDArray[np.float64]]
    algorithms: list[int]
    legal: list[NDArray[np.bool_]]


def _table(rewards: tuple[float, ...]) -> NDArray[np.float64]:
    shape = (len(LOSSES) + 1, len(SAVINGS) + 1)
    if not rewards:
        return built_in_rewards()
    if len(rewards) != shape[0] * shape[1]:
        raise RecipeError(f"rewards: takes {shape[0]} x {shape[1]} numbers, got {len(rewards)}")
    return np.asarray(rewards).reshape(shape)
