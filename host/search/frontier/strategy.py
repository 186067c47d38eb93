"""Our search: one front for all targets, from few measurements, guided by surrogates.

Accuracy is forecast from what solving cannot make up for (host.surrogate.accuracy), latency and
energy from the kernels of the program (host.kernel_times), corrected by every measurement; bytes
are counted. Between two evaluations a population for each target evolves on these forecasts, from
descents on them and from what agents propose that learn from it; then the policy that promises most
for one of the targets is made exact and scored, and measured where that is worth it. Targets take
turns: those that were asked for, and others in between.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from host.blocks import blocks
from host.encoding import Encoding, Floats
from host.policy import Policy
from host.search.episode import is_measured
from host.search.frontier.aim import Aim
from host.search.frontier.chooser import Chooser
from host.search.frontier.evolution import Evolution
from host.search.frontier.forecasts import Forecasts, Told
from host.search.frontier.settings import FrontierSettings
from host.search.harm import alike, harms
from host.search.settings import settings_from
from host.search.strategy import Problem, State, strategy
from host.surrogate.cost import Correction
from host.surrogate.scorecard import Foretold
from host.types import Evaluation, Figure


@strategy(
    "frontier",
    settings=FrontierSettings,
    front=True,
    needs=("program_cost", "residuals", "counters"),
)
class Frontier:
    """Populations for all targets, forecasts, and a memory of what was told."""

    def __init__(self, problem: Problem) -> None:
        self.settings = settings_from(FrontierSettings, problem.settings)
        self.problem = problem
        table = harms(problem)
        encoding = Encoding(problem.space, table if self.settings.sensitivity else alike(table))
        groups = [block.layers for block in blocks(encoding.graph)]
        costs_rng = self._generator("costs")
        self.forecasts = Forecasts(problem, self.settings, encoding, groups, costs_rng)
        self.aim = Aim.of(problem, self.settings)
        self.evolution = Evolution(self.forecasts, self.aim, groups, problem.seed)
        self._forget()

    def _forget(self) -> None:
        self.told: list[Told] = []
        self.forecasts.correction = Correction()
        # The best measured reward for each target.
        self._best = np.full(len(self.aim), -np.inf)

    def ask(self) -> Policy:
        """Evolve on the forecasts, choose for one target, and make the choice exact."""
        self.forecasts.fit(self.told)
        return self._propose()

    def ask_many(self, count: int) -> list[Policy]:
        """Propose in turn: what was proposed counts as told, but nothing is learned from it."""
        self.forecasts.fit(self.told)
        told = len(self.told)
        try:
            for _ in range(count):
                self.told.append(Told(self._propose(), float("nan"), float("nan"), False))
            return [proposed.policy for proposed in self.told[told:]]
        finally:
            del self.told[told:]

    def _propose(self) -> Policy:
        rng = self._generator(len(self.told))
        candidates = self.evolution.candidates(self.told, rng)
        known = [told.policy for told in self.told]
        return Chooser(self.evolution, known, rng).choose(candidates)

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        """Remember, and correct the predictions."""
        cost = self.problem.cost.of(evaluation)
        self._take(Told(policy, evaluation.accuracy, cost, is_measured(evaluation)))

    def worth(self, policy: Policy, accuracy: float) -> bool:
        """Whether a policy of known accuracy promises more than what was measured, for a target.

        For targets that were not asked for, clearly more: a front needs no last digit.
        """
        cost, _ = self.forecasts.cost(policy)
        margin = np.full(len(self.aim), self.settings.margin)
        margin[self.aim.asked] = 0.0
        return bool((self._rewards(accuracy, cost) > self._best + margin).any())

    def predict(self, policy: Policy) -> Figure:
        """Return the predicted cost with its 95 % interval."""
        value, deviation = self.forecasts.cost(policy)
        reach = 1.96 * deviation
        return Figure(value, "predicted", value - reach, value + reach)

    def foretell(self, policy: Policy) -> Foretold | None:
        """Return what is expected of a policy; nothing before the accuracy model was fitted."""
        return self.forecasts.foretell(policy)

    def _take(self, told: Told) -> None:
        if told.measured:
            self.forecasts.correct(told)
            self._best = np.maximum(self._best, self._rewards(told.accuracy, told.cost))
        self.told.append(told)

    def _rewards(self, accuracy: float, cost: float) -> Floats:
        """Return the reward of an accuracy and a cost for every target."""
        goals = self.aim.costs.tolist()
        return np.asarray([self.forecasts.reward(accuracy, cost, goal) for goal in goals])

    def _generator(self, what: int | str) -> np.random.Generator:
        """Return a generator for one purpose: a resumed search draws what it would have drawn."""
        stream = int.from_bytes(str(what).encode(), "big") % (1 << 63)
        return np.random.default_rng([self.problem.seed, stream])

    def state_dict(self) -> State:
        """Return what was told, what lives and what the agents and the forecasts learned."""
        return {
            "told": [{**asdict(told), "policy": told.policy.to_dict()} for told in self.told],
            "evolution": self.evolution.state_dict(),
            "forecasts": self.forecasts.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        self._forget()
        for raw in state["told"]:
            self._take(Told(**{**raw, "policy": Policy.from_dict(raw["policy"])}))
        self.evolution.load_state_dict(state["evolution"])
        self.forecasts.load_state_dict(state["forecasts"])
