"""Evaluations that ask the board only for what is worth it: the others keep a predicted latency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from host.evaluate import Figures
from host.policy import Policy
from host.search.loop import Evaluate
from host.search.strategy import Sparing
from host.types import Evaluation, Figure


@dataclass
class PredictingMeter:
    """A ProgramMeter that builds nothing: predicted latency, exact bytes."""

    strategy: Sparing
    size_bytes: Callable[[Policy], int]

    def figures(self, network: nn.Module, policy: Policy) -> Figures:
        """Return what is known of a program that does not exist."""
        return Figures("", self.size_bytes(policy), self.strategy.predict(policy))


@dataclass
class SparingEvaluator:
    """Scores every policy with `score`, and measures with `measure` what the strategy asks for."""

    strategy: Sparing
    score: Evaluate
    measure: Callable[[Policy], Figures]

    def __call__(self, policy: Policy) -> Evaluation:
        """Return an evaluation whose latency says whether it was measured or predicted."""
        scored = self.score(policy)
        if not self.strategy.worth(policy, scored.accuracy):
            return predicted(scored, self.strategy.predict(policy))
        return measured(scored, self.measure(policy))


def predicted(scored: Evaluation, latency_ms: Figure) -> Evaluation:
    """Return an evaluation of a program that no board saw."""
    return replace(scored, latency_ms=latency_ms, measurements=())


def measured(scored: Evaluation, figures: Figures) -> Evaluation:
    """Return an evaluation with the figures of its program."""
    return replace(scored, **figures.to_evaluation())
