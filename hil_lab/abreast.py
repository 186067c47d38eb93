"""Evaluations of a batch: measured side by side on a rack, scored one after the other in order.

Everything that depends on what is known already (what is worth a board, what is predicted) is
decided before the search is told of any of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from hil_lab.sparing import with_figures
from host.evaluate import Evaluator, Figures
from host.policy import Policy
from host.rack import Rack
from host.search.loop import Evaluate
from host.search.strategy import Sparing
from host.types import Evaluation

# Returns a network whose program is the policy's, whatever its weights.
Shape = Callable[[Policy], nn.Module]


@dataclass
class SideBySide:
    """Measures every policy; `evaluator` asks the rack for what was started."""

    evaluator: Evaluator
    rack: Rack
    shape: Shape

    def __call__(self, policies: Sequence[Policy], place: int) -> Iterator[Evaluation]:
        """Yield evaluations in order; the first policy has this place of its batch."""
        for at, policy in enumerate(policies, place):
            if not self.evaluator.knows(policy):
                self.rack.start(self.shape(policy), policy, at)
        yield from map(self.evaluator, policies)


@dataclass
class SparingSideBySide:
    """Scores every policy with `score`; those that the strategy holds to be worth it are measured.

    A board measures one policy while the next one is scored.
    """

    strategy: Sparing
    score: Evaluate
    rack: Rack
    shape: Shape
    predict: Callable[[Policy], Figures]

    def __call__(self, policies: Sequence[Policy], place: int) -> Iterator[Evaluation]:
        """Yield evaluations in order; the first policy has this place of its batch."""
        scored: list[tuple[Policy, Evaluation, bool]] = []
        for at, policy in enumerate(policies, place):
            evaluation = self.score(policy)
            worth = self.strategy.worth(policy, evaluation.accuracy)
            if worth:
                self.rack.start(self.shape(policy), policy, at)
            scored.append((policy, evaluation, worth))
        for policy, evaluation, worth in scored:
            figures = (
                self.rack.figures(self.shape(policy), policy) if worth else self.predict(policy)
            )
            yield with_figures(evaluation, figures)
