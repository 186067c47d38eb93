"""Galen's three searches (arXiv 2212.07818): pruning, quantization, and both jointly.

One episode walks the layers in order; each step sees the layer, its sensitivities and what is
already decided, and sets the layer's ratios. All steps get the episode's one reward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from host.policy import Choice, Policy, policy_bops, policy_macs
from host.search.actions import ACTIONS, Agent, choice, joint_actions, policy_of
from host.search.agents.ddpg import DDPG, DDPGSettings
from host.search.demonstrations import demonstrations
from host.search.goal import Goal
from host.search.settings import settings_from
from host.search.strategy import Problem, State, Strategy, strategy
from host.sensitivity.table import Kind
from host.types import Evaluation, Layer

SENSITIVITIES: dict[Agent, tuple[Kind, ...]] = {
    "prune": ("prune",),
    "quantize": ("act", "weight", "int8"),
    "joint": ("prune", "act", "weight", "int8"),
}


@dataclass
class Encoder:
    """States of the layers: fixed features once, what is decided so far at every step.

    Every feature lies in [0, 1]: sizes by the network's largest, sensitivities as the table gives
    them, with flags (instead of Galen's sentinel 1000) for what a layer does not support.
    """

    kind: Agent
    problem: Problem
    fixed: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        layers = self.problem.space.graph.layers
        rows = [self._fixed(i, layer) for i, layer in enumerate(layers)]
        self.fixed = np.asarray(rows, dtype=np.float64)
        sizes = slice(1, 9)
        top = np.abs(self.fixed[:, sizes]).max(axis=0)
        self.fixed[:, sizes] /= np.where(top > 0, top, 1.0)

    @property
    def width(self) -> int:
        """Length of a state."""
        return int(self.fixed.shape[1]) + 4 + len(ACTIONS[self.kind])

    def _fixed(self, index: int, layer: Layer) -> list[float]:
        space = self.problem.space
        sensitivity = self.problem.sensitivity.get(layer.name, {})
        modes = space.modes(layer)
        return [
            index / len(space.graph.layers),
            layer.macs,
            layer.macs * 32 * 32,
            layer.out_channels,
            layer.in_channels,
            layer.kernel[0],
            layer.stride[0],
            layer.params,
            layer.positions,
            float(layer.kind == "linear"),
            float(space.prunable(layer)),
            float("int8" in modes),
            float("mix" in modes),
            *(v for kind in SENSITIVITIES[self.kind] for v in sensitivity.get(kind, ())),
        ]

    def state(self, index: int, choices: dict[str, Choice], previous: np.ndarray) -> np.ndarray:
        """Return the state of layer `index` when the layers before it are decided."""
        space = self.problem.space
        policy = space.policy(choices)
        shares = []
        for costs, full in (
            (policy_macs(space.graph, policy), [layer.macs for layer in space.graph.layers]),
            (policy_bops(space.graph, policy), [layer.macs * 1024 for layer in space.graph.layers]),
        ):
            values = list(costs.values())
            shares += [sum(values[:index]) / sum(full), sum(values[index + 1 :]) / sum(full)]
        return np.concatenate([self.fixed[index], shares, previous])


class Galen:
    """One DDPG agent over the layers that it may change."""

    def __init__(self, kind: Agent, problem: Problem) -> None:
        self.kind: Agent = kind
        self.problem = problem
        self.encoder = Encoder(kind, problem)
        settings = settings_from(DDPGSettings, problem.settings)
        self.agent = DDPG(self.encoder.width, len(ACTIONS[kind]), settings, problem.seed)
        self.trace: tuple[np.ndarray, np.ndarray] | None = None
        shown = settings.demonstrations if kind == "joint" else 0
        self.steps = [layer for layer in problem.space.graph.layers if self.decides(layer)]
        self.shown = demonstrations(problem, shown)
        aims = settings.meet_target and problem.layer_cost is not None
        self.goal = Goal(problem) if aims else None

    def decides(self, layer: Layer) -> bool:
        """Whether a layer is a step of the episode."""
        space = self.problem.space
        prunes = self.kind != "quantize" and space.prunable(layer)
        return prunes or (self.kind != "prune" and space.quantizable(layer))

    @property
    def showing(self) -> bool:
        """Whether this episode follows a demonstration."""
        return self.agent.episode < len(self.shown)

    def ask(self) -> Policy:
        """Walk the layers with the actor and its noise; then move all steps to meet the target."""
        self.agent.begin()
        states, actions = self._walk(lambda i, state: self._act(self.steps[i], state))
        if self.goal is not None and not self.showing:
            moved = self.goal.shift(actions, self._policy)
            if not np.array_equal(moved, actions):
                # What a step sees depends on the steps before it.
                states, actions = self._walk(lambda i, state: moved[i])
        self.trace = states, actions
        return self._policy(actions)

    def _walk(self, act: Callable[[int, np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Decide layer after layer; return the states and the actions."""
        choices: dict[str, Choice] = {}
        states, actions = [], []
        previous = np.zeros(len(ACTIONS[self.kind]))
        positions = {layer.name: i for i, layer in enumerate(self.problem.space.graph.layers)}
        for i, layer in enumerate(self.steps):
            index = positions[layer.name]
            states.append(self.encoder.state(index, choices, previous))
            previous = act(i, states[-1])
            actions.append(previous)
            choices[layer.name] = choice(self.kind, previous, layer, self.problem.space)
        return np.asarray(states), np.asarray(actions)

    def _policy(self, actions: np.ndarray) -> Policy:
        return policy_of(self.kind, self.steps, actions, self.problem.space)

    def _act(self, layer: Layer, state: np.ndarray) -> np.ndarray:
        """Follow a demonstration while there is one, else the agent."""
        if self.showing:
            form = self.shown[self.agent.episode][layer.name]
            return joint_actions(form, layer, self.problem.space)
        return self.agent.act(state)

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        """Give every step of the last walk the episode's reward and update."""
        if self.trace is None:
            raise ValueError("tell before ask")
        if self.goal is not None:
            self.goal.learn(policy, evaluation)
        states, actions = self.trace
        self.agent.learn(states, actions, self.problem.score(evaluation))
        self.trace = None

    def state_dict(self) -> State:
        """Return the agent's state."""
        aim = {} if self.goal is None else {"goal": self.goal.value}
        return {"agent": self.agent.state_dict(), **aim}

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        self.agent.load_state_dict(state["agent"])
        if self.goal is not None:
            self.goal.value = float(state["goal"])


@strategy("galen-prune", settings=DDPGSettings, needs=("sensitivity", "layer_cost"))
def galen_prune(problem: Problem) -> Strategy:
    """Galen's pruning agent."""
    return Galen("prune", problem)


@strategy("galen-quantize", settings=DDPGSettings, needs=("sensitivity", "layer_cost"))
def galen_quantize(problem: Problem) -> Strategy:
    """Galen's quantization agent."""
    return Galen("quantize", problem)


@strategy("galen-joint", settings=DDPGSettings, needs=("sensitivity", "layer_cost"))
def galen_joint(problem: Problem) -> Strategy:
    """Galen's joint agent."""
    return Galen("joint", problem)
