"""Which programs of a space are measured: a grid, random ones, or those a forecast knows least of.

A sampler is asked for some more, and told all that was drawn and measured before. What it draws
depends on the seed and on that alone, so that a dataset which was interrupted goes on as it would
have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np

from host.dataset.records import Sample
from host.dataset.spaces import Program, ProgramSpace, Row, Spec
from host.registry import Registry
from host.surrogate.programs import ProgramModel

# A chooser draws so many times as many as it takes.
POOL = 10
# Draws in a row that were all known: the space is used up.
PATIENCE = 2_000
# Between two fits of the forecast that chooses.
ROUND = 32

Known = Sequence[tuple[Sequence[Row], float]]


class Sampler(Protocol):
    """Draws what is measured."""

    @property
    def round(self) -> int | None:
        """How many samples may be drawn before their results are needed, None for any."""
        ...

    def draw(
        self, space: ProgramSpace, count: int, drawn: Sequence[Sample], known: Known
    ) -> list[Sample]:
        """Return at most `count` new samples, fewer where the space holds no more.

        `known` are kernel tables and milliseconds of what was measured.
        """
        ...


# From a seed.
SAMPLERS: Registry[Callable[[int], Sampler]] = Registry("way of sampling")


@dataclass(frozen=True, slots=True)
class InOrder:
    """Takes specs in an order that needs no results; `specs` yields them from a seed."""

    seed: int
    specs: Callable[[ProgramSpace, np.random.Generator], Iterator[Spec]]
    round: int | None = None

    def draw(
        self, space: ProgramSpace, count: int, drawn: Sequence[Sample], known: Known
    ) -> list[Sample]:
        """Return the next samples in order."""
        specs = self.specs(space, np.random.default_rng([self.seed, len(drawn)]))
        return [sample for sample, _ in islice(fresh(space, specs, drawn), count)]


@SAMPLERS.register("random")
def random_sampler(seed: int) -> Sampler:
    """Draw evenly."""
    return InOrder(seed, _draws)


@SAMPLERS.register("grid")
def grid_sampler(seed: int) -> Sampler:
    """Take a grid in an order that spreads; it has no seed."""
    return InOrder(seed, lambda space, _: space.grid())


@SAMPLERS.register("uncertain")
class UncertainSampler:
    """Of many random programs takes those whose forecasts differ most; the first are random."""

    round: int | None = ROUND

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def draw(
        self, space: ProgramSpace, count: int, drawn: Sequence[Sample], known: Known
    ) -> list[Sample]:
        """Return the samples of the next round."""
        rng = np.random.default_rng([self._seed, len(drawn)])
        model = ProgramModel(self._seed)
        model.fit([rows for rows, _ in known], [ms for _, ms in known])
        found = fresh(space, _draws(space, rng), drawn)
        if not model.ready:
            return [s for s, _ in islice(found, count)]
        pool = list(islice(found, POOL * count))
        if not pool:
            return []
        spread = model([program.rows for _, program in pool]).spread
        best = np.argsort(-spread, kind="stable")[:count]
        return [
            Sample(len(drawn) + at, pool[i][0].spec, pool[i][0].structure)
            for at, i in enumerate(best)
        ]


def fresh(
    space: ProgramSpace, specs: Iterator[Spec], drawn: Sequence[Sample]
) -> Iterator[tuple[Sample, Program]]:
    """Yield numbered samples of programs that no other has, until too many are known."""
    seen, number, idle = {sample.structure for sample in drawn}, len(drawn), 0
    for spec in specs:
        program = space.plan(spec)
        idle += 1
        if program.structure not in seen:
            seen.add(program.structure)
            yield Sample(number, spec, program.structure), program
            number, idle = number + 1, 0
        elif idle >= PATIENCE:
            return


def _draws(space: ProgramSpace, rng: np.random.Generator) -> Iterator[Spec]:
    while True:
        yield space.draw(rng)
