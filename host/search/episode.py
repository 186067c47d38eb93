"""One evaluated policy of a search, and what may be read off many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from host.cost import LATENCY, Cost
from host.policy import Policy
from host.types import Evaluation


@dataclass(frozen=True, slots=True)
class Episode:
    """One evaluated policy and its reward."""

    number: int
    policy: Policy
    evaluation: Evaluation
    reward: float

    @property
    def latency_ms(self) -> float:
        """Median latency of the evaluation."""
        figure = self.evaluation.latency_ms
        return figure.value if figure else float("inf")

    @property
    def measured(self) -> bool:
        """Whether a board, or its cache, stands behind the latency."""
        return is_measured(self.evaluation)


def is_measured(evaluation: Evaluation) -> bool:
    """Whether a board, or its cache, stands behind an evaluation."""
    figure = evaluation.latency_ms
    return figure is not None and figure.source != "predicted"


def best(episodes: Sequence[Episode]) -> Episode:
    """Return the episode of the highest reward, the first of equals, of measured ones if any."""
    return max(episodes, key=lambda e: (e.measured, e.reward, -e.number))


def pareto(episodes: Sequence[Episode], cost: Cost = LATENCY) -> list[Episode]:
    """Return the measured episodes that no other beats in accuracy and cost, cheapest first."""
    front: list[Episode] = []
    measured = [episode for episode in episodes if episode.measured]
    for episode in sorted(measured, key=lambda e: (cost.of(e.evaluation), -e.evaluation.accuracy)):
        if not front or episode.evaluation.accuracy > front[-1].evaluation.accuracy:
            front.append(episode)
    return front
