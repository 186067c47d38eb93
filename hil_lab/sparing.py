"""Evaluations that ask the board only for what is worth it: the others keep a predicted cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from host.cost import ENERGY, LATENCY, Cost
from host.evaluate import Figures
from host.policy import Policy
from host.search.loop import Evaluate
from host.search.strategy import Sparing
from host.types import Evaluation, Figure


@dataclass
class Prediction:
    """A ProgramMeter that builds nothing: bytes are exact, the strategy predicts what it aims at.

    `latency_ms` is for strategies that aim at another cost.
    """

    strategy: Sparing
    size_bytes: Callable[[Policy], int]
    latency_ms: Callable[[Policy], float]
    cost: Cost = LATENCY

    def __call__(self, policy: Policy) -> Figures:
        """Return what is known of a program that does not exist."""
        aimed = self.strategy.predict(policy)
        latency = aimed
        if self.cost is not LATENCY:
            latency = Figure(self.latency_ms(policy), "predicted")
        energy = aimed if self.cost is ENERGY else None
        return Figures("", self.size_bytes(policy), latency, energy)

    def figures(self, network: nn.Module, policy: Policy) -> Figures:
        """Return the same, whatever the weights."""
        return self(policy)


@dataclass
class SparingEvaluator:
    """Scores every policy with `score`, measures what the strategy asks for, predicts the rest."""

    strategy: Sparing
    score: Evaluate
    measure: Callable[[Policy], Figures]
    predict: Callable[[Policy], Figures]

    def __call__(self, policy: Policy) -> Evaluation:
        """Return an evaluation whose figures say whether they were measured or predicted."""
        scored = self.score(policy)
        worth = self.strategy.worth(policy, scored.accuracy)
        return with_figures(scored, self.measure(policy) if worth else self.predict(policy))


def with_figures(scored: Evaluation, figures: Figures) -> Evaluation:
    """Return an evaluation with the figures of its program, measured or predicted."""
    return replace(scored, **figures.to_evaluation())
