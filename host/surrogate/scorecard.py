"""How well a search foresees: what it foretold of policies against what they turned out to be.

Only forecasts made before their truth was told count. Pairs are kept; figures are derived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from host.cost import LATENCY, Cost
from host.stats import spearman
from host.types import Evaluation, Figure

# The share of truths that should lie within a stated interval.
COVERED = 0.9
# Fewer pairs have no order worth a number.
LEAST_RANKED = 3


@dataclass(frozen=True, slots=True)
class Expected:
    """A number before it is known; `low` and `high` bound its 90 % interval, if one is stated."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Foretold:
    """What a strategy expects of a policy: accuracy, and the cost that its problem counts."""

    accuracy: Expected
    cost: Expected | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A forecast and its truth."""

    expected: Expected
    truth: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What pairs come to; None where there are too few of them, or no interval was stated.

    Accuracy: mean absolute error, Spearman's rank correlation, share within the stated interval.
    Cost: median error as a share of the truth, share within the stated interval.
    """

    pairs: int
    error: float | None
    rank: float | None
    covered: float | None
    cost_pairs: int
    cost_error_ratio: float | None
    cost_covered: float | None

    def __str__(self) -> str:
        if self.error is None:
            return ""
        rank = "" if self.rank is None else f", rank {self.rank:.2f}"
        return f"surrogate ±{100 * self.error:.1f} %{rank}"


@dataclass
class Scorecard:
    """The pairs so far."""

    accuracy: list[Pair] = field(default_factory=list)
    cost: list[Pair] = field(default_factory=list)

    def add(self, foretold: Foretold, truth: Evaluation, cost: Cost = LATENCY) -> None:
        """Take in an evaluation that was foretold; a cost counts unless it is predicted itself."""
        self.accuracy.append(Pair(foretold.accuracy, truth.accuracy))
        value: Figure | int | None = getattr(truth, cost.field)
        guessed = isinstance(value, Figure) and value.source == "predicted"
        if foretold.cost is not None and value is not None and not guessed:
            self.cost.append(Pair(foretold.cost, cost.of(truth)))

    def figures(self) -> Figures:
        """Return what the pairs come to."""
        off = [abs(pair.expected.value - pair.truth) for pair in self.accuracy]
        ratios = [abs(pair.expected.value / pair.truth - 1) for pair in self.cost]
        return Figures(
            pairs=len(self.accuracy),
            error=float(np.mean(off)) if off else None,
            rank=_rank(self.accuracy),
            covered=_covered(self.accuracy),
            cost_pairs=len(self.cost),
            cost_error_ratio=float(np.median(ratios)) if ratios else None,
            cost_covered=_covered(self.cost),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: all pairs."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scorecard:
        """Read the JSON form."""
        return cls(*([_pair(raw) for raw in data[name]] for name in ("accuracy", "cost")))


def _pair(raw: Mapping[str, Any]) -> Pair:
    return Pair(Expected(**raw["expected"]), raw["truth"])


def _rank(pairs: Sequence[Pair]) -> float | None:
    expected, truths = [pair.expected.value for pair in pairs], [pair.truth for pair in pairs]
    if len(pairs) < LEAST_RANKED or len(set(expected)) == 1 or len(set(truths)) == 1:
        return None
    return spearman(expected, truths)


def _covered(pairs: Sequence[Pair]) -> float | None:
    within = [
        pair.expected.low <= pair.truth <= pair.expected.high
        for pair in pairs
        if pair.expected.low is not None and pair.expected.high is not None
    ]
    return float(np.mean(within)) if within else None
