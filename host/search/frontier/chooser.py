"""Which candidate is evaluated: the best new one, once the programs of the best few are planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from host.encoding import Batch
from host.policy import Policy
from host.search.frontier.evolution import NEWCOMERS, Candidates, Evolution


@dataclass(frozen=True, eq=False)
class Choice:
    """A policy and its code, its forecast reward, and its exact over its fast cost."""

    value: float
    code: Batch
    policy: Policy
    exact_ratio: float


@dataclass(frozen=True, eq=False)
class Chooser:
    """Chooses for one evaluation; `known` are the policies that were told before."""

    evolution: Evolution
    known: Sequence[Policy]
    rng: np.random.Generator

    def choose(self, candidates: Candidates) -> Policy:
        """Return the best policy that is new, its cost predicted from its program."""
        goal, stage, encoding = candidates.goal, candidates.stage, self.evolution.encoding
        best = self._planned(candidates.batch, goal)
        while best is None:
            best = self._planned(stage.fixed(encoding.random(NEWCOMERS, self.rng)), goal)
        around = stage.fixed(encoding.neighbours(best.code))
        better = self._planned(around, goal, best.exact_ratio)
        return better.policy if better is not None and better.value > best.value else best.policy

    def _planned(self, batch: Batch, goal: float, ratio: float = 1.0) -> Choice | None:
        """Return the best of a batch by exact predictions, None where all were told before.

        `ratio` corrects the fast predictions by which the candidates for planning are chosen.
        """
        forecasts, encoding = self.evolution.forecasts, self.evolution.encoding
        known = set(encoding.batch(self.known).keys())
        new = [i for i, key in enumerate(batch.keys()) if key not in known]
        if not new:
            return None
        batch = batch[np.asarray(new)]
        figures = self.evolution.figures(batch, len(self.known)) * [1.0, ratio]
        order = np.argsort(-forecasts.score(figures, goal), kind="stable")
        order = order[: forecasts.settings.planned]
        policies = [encoding.policy(batch, int(i)) for i in order]
        rows = [forecasts.program_cost(policy) for policy in policies]
        forecasts.costs.learn(batch[order], rows)
        pairs = zip(policies, rows, strict=True)
        exact = np.asarray([forecasts.corrected(*pair)[0] for pair in pairs])
        values = forecasts.score(np.stack([figures[order, 0], exact], 1), goal)
        first = int(np.argmax(values))
        code = batch[order[first : first + 1]]
        fast = float(forecasts.costs(code)[0])
        return Choice(float(values[first]), code, policies[first], float(exact[first]) / fast)
