"""The targets that one search serves, and whose turn it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from host.encoding import Floats, Ints
from host.search.frontier.settings import FrontierSettings
from host.search.strategy import Problem

GOLDEN = 0.618034
# Targets whose logarithms are nearer than this are one target.
APART = 0.05


@dataclass(frozen=True)
class Aim:
    """Targets in the cost's unit, ascending; `asked` are those asked for, by index."""

    costs: Floats
    asked: Ints
    settings: FrontierSettings

    @classmethod
    def of(cls, problem: Problem, settings: FrontierSettings) -> Aim:
        """Return the targets of a problem and some between the least and the uncompressed one."""
        wanted = sorted(set(problem.targets or (problem.target,)))
        grid = np.geomspace(wanted[0], problem.reference, settings.between + 2)[1:-1]
        # Those that nearly are one that was asked for teach nothing.
        far = [t for t in grid if min(abs(np.log(t / w)) for w in wanted) > APART]
        costs = np.sort(np.concatenate([wanted, far]))
        return cls(costs, np.searchsorted(costs, wanted), settings)

    def __len__(self) -> int:
        return len(self.costs)

    @cached_property
    def between(self) -> list[int]:
        """The targets that were not asked for."""
        return [i for i in range(len(self.costs)) if i not in self.asked]

    def turn(self, number: int) -> int:
        """Return the target of an evaluation: the asked ones in turn, now and then another."""
        # The design tries every weight for every target that was asked for.
        after, every = number - self.settings.design, self.settings.front_every
        if after < 0 or not self.between or not every:
            return int(self.asked[number % len(self.asked)])
        if after % every == every - 1:
            # Far ones first, then those between them: the golden section spreads any number.
            nth = (after // every + 1) * GOLDEN % 1.0
            return self.between[int(len(self.between) * nth)]
        return int(self.asked[(after - after // every) % len(self.asked)])
