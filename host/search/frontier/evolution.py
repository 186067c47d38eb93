"""Candidates for every target: islands that evolve on forecasts, agents that learn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from host.encoding import Batch, Floats, join
from host.policy import uncompressed
from host.search.frontier.aim import Aim
from host.search.frontier.descent import Descent
from host.search.frontier.forecasts import Forecasts, Told
from host.search.frontier.hierarchy import Hierarchy, view_of
from host.search.islands import Islands, IslandSettings
from host.search.stage import JOINT, Stage

# Of every population, how many seed the next one and are imitated.
LIVING = 8
NEWCOMERS = 64
# So many of the policies that were told last are in every beginning.
REMEMBERED = 64
# Harm is what accuracy lacks of one, as a share of it, and finite.
LEAST_ACCURACY = 1e-3


@dataclass(frozen=True, eq=False)
class Candidates:
    """Policies that evolved for one target in the cost's unit, within what may be decided."""

    batch: Batch
    goal: float
    stage: Stage


class Evolution:
    """Islands, what lives on them, and the agents."""

    def __init__(
        self, forecasts: Forecasts, aim: Aim, groups: Sequence[Sequence[str]], seed: int
    ) -> None:
        self.forecasts, self.aim = forecasts, aim
        self.settings, self.encoding = forecasts.settings, forecasts.encoding
        size = (self.settings.population, self.settings.offspring, self.settings.generations)
        self.islands = Islands(self.encoding, groups, IslandSettings(*size))
        self.living: list[Batch] = []
        self.hierarchy = self._hierarchy(groups, seed) if self.settings.agents else None

    def _hierarchy(self, groups: Sequence[Sequence[str]], seed: int) -> Hierarchy:
        """Return the agents; what they see of layers is fixed before the search."""
        events = self.forecasts.problem.counters if self.settings.counters else {}
        view = view_of(self.encoding, groups, self.forecasts.program_cost, events)
        return Hierarchy(self.encoding, view, seed, high_level=self.settings.high_level)

    def candidates(self, told: Sequence[Told], rng: np.random.Generator) -> Candidates:
        """Evolve, and return the candidates for the target whose turn it is."""
        target = self.aim.turn(len(told))
        if self.settings.order != "joint":
            return self._staged(told, float(self.aim.costs[target]), rng)
        goals = self.aim.costs.tolist()
        batches = self._evolved(told, goals, JOINT, rng)
        self.living = [batch[slice(LIVING)] for batch in batches]
        self._teach()
        return Candidates(batches[target], goals[target], JOINT)

    def _evolved(
        self, told: Sequence[Told], goals: Sequence[float], stage: Stage, rng: np.random.Generator
    ) -> list[Batch]:
        def figures(batch: Batch) -> Floats:
            return self.figures(batch, len(told))

        def score(found: Floats, target: int) -> Floats:
            return self.forecasts.score(found, goals[target])

        start = join([self._start(told, rng), *self._descents(len(told), goals, stage)])
        populations = self.islands.evolve(start, len(goals), figures, score, rng, stage)
        return [population.batch for population in populations]

    def _descents(self, number: int, goals: Sequence[float], stage: Stage) -> list[Batch]:
        """Return what a descent on the forecasts of evaluation `number` passes at every goal."""
        if not self.settings.descent:
            return []
        whole = self.encoding.batch([uncompressed(self.encoding.graph)])
        start = stage.base if stage.base is not None else whole

        def harm(batch: Batch) -> Floats:
            accuracy = self.forecasts.accuracy(batch, number, len(self.aim.asked))
            return np.asarray(1 / np.maximum(accuracy, LEAST_ACCURACY) - 1)

        return [Descent(self.encoding, stage)(start, goals, harm, self.forecasts.costs)]

    def figures(self, batch: Batch, number: int) -> Floats:
        """Return hoped-for accuracies and fast costs at evaluation `number`: [n, 2]."""
        accuracy = self.forecasts.accuracy(batch, number, len(self.aim.asked))
        return np.stack([accuracy, self.forecasts.costs(batch)], 1)

    def _staged(self, told: Sequence[Told], goal: float, rng: np.random.Generator) -> Candidates:
        """Decide one kind of thing alone: half of the way first, then the rest of it."""
        problem, pruning = self.forecasts.problem, self.settings.order == "prune-first"
        half, midway = problem.episodes // 2, float(np.sqrt(goal * problem.reference))
        policy, first = uncompressed(self.encoding.graph), len(told) < half
        if not first:
            reward = self.forecasts.reward
            # Of a batch that is being asked for nothing is known yet.
            past = [known for known in told[:half] if not np.isnan(known.cost)]
            best = max(past, key=lambda known: reward(known.accuracy, known.cost, midway))
            policy = best.policy
        base, goal = self.encoding.batch([policy]), midway if first else goal
        stage = Stage(widths=pruning == first, forms=pruning != first, base=base)
        return Candidates(self._evolved(told, [goal], stage, rng)[0], goal, stage)

    def _start(self, told: Sequence[Told], rng: np.random.Generator) -> Batch:
        """Return what islands begin with: what lived, was told or is proposed, and newcomers."""
        policies = [known.policy for known in told[-REMEMBERED:]]
        plain = self.encoding.batch([uncompressed(self.encoding.graph), *policies])
        newcomers = self.encoding.random(NEWCOMERS, rng)
        return join([plain, newcomers, *self.living, *self._proposals(rng)])

    def _teach(self) -> None:
        """Let the agents imitate what evolved, each policy for the cost that it came to."""
        if self.hierarchy is not None:
            elites, costs = join(self.living), self.forecasts.costs
            targets = costs(elites) / self.forecasts.problem.reference
            lessons = self.hierarchy.lessons(elites, targets, costs.by_layer(elites))
            self.hierarchy.learn(lessons, self.settings.lessons)

    def _proposals(self, rng: np.random.Generator) -> list[Batch]:
        """Return what the agents propose for every target; nothing before they learned."""
        if self.hierarchy is None or not self.hierarchy.learned:
            return []
        targets = self.aim.costs / self.forecasts.problem.reference
        seed = int(rng.integers(1 << 31))
        return [self.hierarchy.propose(targets, self.settings.proposals, seed)]

    def state_dict(self) -> dict[str, Any]:
        """Return what lives, and the agents."""
        return {
            "living": [[b.widths.tolist(), b.forms.tolist()] for b in self.living],
            "agents": self.hierarchy.state_dict() if self.hierarchy is not None else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.living = [_batch(*raw) for raw in state["living"]]
        if self.hierarchy is not None:
            self.hierarchy.load_state_dict(state["agents"])


def _batch(widths: list[list[int]], forms: list[list[int]]) -> Batch:
    return Batch(np.asarray(widths, dtype=np.int64).reshape(len(forms), -1), np.asarray(forms))
