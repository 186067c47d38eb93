"""The baselines that the papers lack: uniform, random, greedy by sensitivity, TPE and NSGA-II."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np

from host.policy import Choice, Policy
from host.search.actions import ACTIONS, policy_of
from host.search.goal import Goal
from host.search.harm import harm
from host.search.strategy import Problem, State, strategy
from host.types import Evaluation, Layer

GREEDY_JITTER = 0.3
# Optuna's 50 would be two generations of a hundred evaluations.
POPULATION = 20
UNIFORM_SPARSITIES = (0.0, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8)


@strategy("uniform")
class Uniform:
    """The same format and sparsity everywhere, over a grid, int8 first."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        formats = [Choice(None, "int8", 8, 8), Choice()]
        for bits in range(problem.space.max_mix_bits, 0, -1):
            formats.append(Choice(None, "mix", bits, bits))
        seen: dict[str, Policy] = {}
        for sparsity, form in itertools.product(UNIFORM_SPARSITIES, formats):
            policy = self._policy(form, sparsity)
            seen.setdefault(policy.digest(), policy)
        self.grid = list(seen.values())
        self.position = 0

    def _policy(self, form: Choice, sparsity: float) -> Policy:
        space = self.problem.space
        return space.policy(
            {
                layer.name: replace(form, keep=space.keep_for(layer, sparsity))
                for layer in space.graph.layers
            }
        )

    def ask(self) -> Policy:
        """Return the next point of the grid, from the start again when it is through."""
        return self.ask_many(1)[0]

    def ask_many(self, count: int) -> list[Policy]:
        """Return the next points of the grid."""
        return [self.grid[(self.position + i) % len(self.grid)] for i in range(count)]

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        """Move on."""
        self.position += 1

    def state_dict(self) -> State:
        """Return the position in the grid."""
        return {"position": self.position}

    def load_state_dict(self, state: State) -> None:
        """Go on from a position."""
        self.position = int(state["position"])


@strategy("random")
class Random:
    """Independent uniform actions through the same mapping as the joint agent."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.rng = np.random.default_rng(problem.seed)

    def ask(self) -> Policy:
        """Draw a policy."""
        space = self.problem.space
        layers = space.graph.layers
        return policy_of("joint", layers, self.rng.random((len(layers), 3)), space)

    def ask_many(self, count: int) -> list[Policy]:
        """Draw policies."""
        return [self.ask() for _ in range(count)]

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        """Learn nothing."""

    def state_dict(self) -> State:
        """Return the generator."""
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: State) -> None:
        """Go on from a generator state."""
        self.rng.bit_generator.state = state["rng"]


@strategy("greedy", needs=("sensitivity", "layer_cost"))
class Greedy:
    """Least sensitivity per saved cost first, until a goal is predicted to be met.

    The prediction comes from the problem's `layer_cost`; after every measurement the goal moves so
    that the next policy lands on the target.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.goal = Goal(problem)
        self.rng = np.random.default_rng(problem.seed)
        self.asked = 0

    def ask(self) -> Policy:
        """Build a policy step by step; later episodes jitter the sensitivities to look around."""
        jitter = 0.0 if self.asked == 0 else GREEDY_JITTER
        self.asked += 1
        return self.towards(self.goal.value, jitter)

    def towards(self, goal: float, jitter: float = 0.0) -> Policy:
        """Return the policy that is predicted to cost `goal`; jitter varies sensitivities."""
        space = self.problem.space
        choices: dict[str, Choice] = {}
        weight = {
            layer.name: float(np.exp(jitter * self.rng.standard_normal()))
            for layer in space.graph.layers
        }
        while self._predict(choices) > goal:
            step = self._best_step(choices, weight)
            if step is None:
                break
            choices[step[0]] = step[1]
        return space.policy(choices)

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        """Move the goal by the ratio of target and measurement."""
        self.goal.learn(policy, evaluation)

    def _predict(self, choices: dict[str, Choice]) -> float:
        return self.goal.predict(self.problem.space.policy(choices))

    def _best_step(
        self, choices: dict[str, Choice], weight: dict[str, float]
    ) -> tuple[str, Choice] | None:
        now = self._predict(choices)
        best: tuple[float, str, Choice] | None = None
        for layer in self.problem.space.graph.layers:
            for option in self._options(layer, choices.get(layer.name, Choice())):
                saved = now - self._predict({**choices, layer.name: option})
                if saved <= 0:
                    continue
                before = self._harm(layer, choices.get(layer.name, Choice()))
                price = weight[layer.name] * max(self._harm(layer, option) - before, 1e-6) / saved
                if best is None or price < best[0]:
                    best = (price, layer.name, option)
        return (best[1], best[2]) if best else None

    def _options(self, layer: Layer, now: Choice) -> list[Choice]:
        """Return the next stronger settings of a layer: one step narrower, one format lower."""
        space = self.problem.space
        levels = [w for w in space.keep_levels(layer) if w < (now.keep or layer.out_channels)]
        options = [replace(now, keep=levels[-1])] if levels else []
        modes = space.modes(layer)
        if now.mode == "fp32" and "int8" in modes:
            options.append(replace(now, mode="int8", weight_bits=8, act_bits=8))
        if now.mode == "int8" and "mix" in modes:
            for bits in range(space.max_mix_bits, 0, -1):
                options.append(replace(now, mode="mix", weight_bits=bits, act_bits=bits))
        if now.mode == "mix" and now.weight_bits > 1:
            fewer = now.weight_bits - 1
            options.append(replace(now, weight_bits=fewer, act_bits=fewer))
        return options

    def _harm(self, layer: Layer, wish: Choice) -> float:
        return harm(self.problem.sensitivity.get(layer.name, {}), layer, wish)

    def state_dict(self) -> State:
        """Return the goal and the generator."""
        return {
            "goal": self.goal.value,
            "asked": self.asked,
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        self.goal.value, self.asked = float(state["goal"]), int(state["asked"])
        self.rng.bit_generator.state = state["rng"]


class Study(ABC):
    """An Optuna study over the joint agent's actions; subclasses say how it samples and scores."""

    directions: tuple[str, ...] = ("maximize",)

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._start()

    @abstractmethod
    def sampler(self) -> Any:
        """Return Optuna's sampler."""

    def values(self, evaluation: Evaluation) -> list[float]:
        """Return what the study is told of an evaluation, one value per direction."""
        return [self.problem.score(evaluation)]

    def _start(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.history: list[list[float]] = []
        self.batches: list[int] = []
        self.study = optuna.create_study(directions=self.directions, sampler=self.sampler())
        self.trials: list[Any] = []

    def ask(self) -> Policy:
        """Let the sampler choose three actions per layer."""
        return self.ask_many(1)[0]

    def ask_many(self, count: int) -> list[Policy]:
        """Let the sampler choose as often before it is told of the first choice."""
        self.trials = [self.study.ask() for _ in range(count)]
        return [self._policy(trial) for trial in self.trials]

    def _policy(self, trial: Any) -> Policy:
        space, draw = self.problem.space, trial.suggest_float
        actions = [
            [draw(f"{layer.name}:{name}", 0.0, 1.0) for name in ACTIONS["joint"]]
            for layer in space.graph.layers
        ]
        return policy_of("joint", space.graph.layers, np.asarray(actions), space)

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        """Report the values."""
        self._report(self.values(evaluation))

    def _report(self, values: list[float]) -> None:
        self.study.tell(self.trials.pop(0), values)
        self.history.append(values)
        # Those that were asked together are complete once the last of them is told.
        if not self.trials:
            self.batches.append(len(self.history) - sum(self.batches))

    def state_dict(self) -> State:
        """Return the values so far: the study is their deterministic consequence."""
        return {
            "history": [list(values) for values in self.history],
            "batches": list(self.batches),
        }

    def load_state_dict(self, state: State) -> None:
        """Replay the values on a fresh study, asked together as they were."""
        self._start()
        left = iter(state["history"])
        for size in state.get("batches", [1] * len(state["history"])):
            self.ask_many(size)
            for values in itertools.islice(left, size):
                self._report([float(value) for value in values])


@strategy("tpe")
class TPE(Study):
    """Tree-structured Parzen estimator on the reward."""

    def sampler(self) -> Any:
        """Return Optuna's sampler."""
        import optuna

        return optuna.samplers.TPESampler(seed=self.problem.seed)


@strategy("nsga2", front=True)
class NSGA2(Study):
    """NSGA-II on accuracy and cost: one search for a whole front, whatever the target."""

    directions = ("maximize", "minimize")

    def sampler(self) -> Any:
        """Return Optuna's sampler."""
        import optuna

        return optuna.samplers.NSGAIISampler(seed=self.problem.seed, population_size=POPULATION)

    def values(self, evaluation: Evaluation) -> list[float]:
        """Return accuracy and cost."""
        return [evaluation.accuracy, self.problem.cost.of(evaluation)]
