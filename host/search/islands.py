"""Evolution over predictions: a population for each target, neighbours exchanging what suits them.

Every policy that is tried is offered to the islands on either side, so that one search serves a
whole range of targets. Nothing here is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from host.encoding import Batch, Encoding, Floats, Ints, join
from host.search.stage import JOINT, Stage

# policies -> what is forecast of each: [n, figures]
Forecasts = Callable[[Batch], Floats]
# (forecasts [n, figures], target's index) -> score of each, higher is better
Score = Callable[[Floats, int], Floats]


@dataclass(frozen=True, slots=True)
class IslandSettings:
    """How long and how wide: all islands together try `offspring` policies a generation."""

    population: int = 24
    offspring: int = 32
    generations: int = 60
    crossover: float = 0.3


@dataclass(frozen=True, eq=False)
class Population:
    """Policies and what is forecast of them, the best one first."""

    batch: Batch
    figures: Floats


class Islands:
    """Populations of encoded policies, one for each target."""

    def __init__(
        self,
        encoding: Encoding,
        groups: Sequence[Sequence[str]],
        settings: IslandSettings | None = None,
    ) -> None:
        self.encoding = encoding
        self.settings = settings or IslandSettings()
        self._widths, self._forms = _membership(encoding, groups)

    def evolve(
        self,
        start: Batch,
        targets: int,
        forecasts: Forecasts,
        score: Score,
        rng: np.random.Generator,
        stage: Stage = JOINT,
    ) -> list[Population]:
        """Return the population of every target; `start` seeds all, within what may be decided."""
        start, genes = stage.fixed(start), stage.genes(self.encoding)
        begun = Population(start, forecasts(start))
        populations = [self._select([begun], t, score) for t in range(targets)]
        for _ in range(self.settings.generations):
            children = [self._children(p.batch, genes, rng) for p in populations]
            together = join(children)
            figures = forecasts(together)
            size = self.settings.offspring
            born = [
                Population(child, figures[t * size : (t + 1) * size])
                for t, child in enumerate(children)
            ]
            populations = [
                self._select([populations[t], *born[max(t - 1, 0) : t + 2]], t, score)
                for t in range(targets)
            ]
        return populations

    def _select(self, parts: Sequence[Population], target: int, score: Score) -> Population:
        batch = join([part.batch for part in parts])
        figures = np.concatenate([part.figures for part in parts])
        _, first = np.unique(np.asarray(batch.keys()), return_index=True)
        values = score(figures[first], target)
        best = first[np.argsort(-values, kind="stable")[: self.settings.population]]
        return Population(batch[best], figures[best])

    def _children(self, parents: Batch, genes: Ints, rng: np.random.Generator) -> Batch:
        count = self.settings.offspring
        # Better parents have more children: the lower of two draws.
        first, second = (rng.integers(0, len(parents), (2, count)).min(0) for _ in range(2))
        children = Batch(parents.widths[first].copy(), parents.forms[first].copy())
        crossed = rng.random(count) < self.settings.crossover
        self._cross(children, parents[second], crossed, rng)
        self._mutate(children, genes, rng)
        return children

    def _cross(
        self, children: Batch, others: Batch, crossed: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Take half of the blocks from another parent."""
        taken = (rng.random((len(children), len(self._forms))) < 0.5) & crossed[:, None]
        widths, forms = taken @ self._widths, taken @ self._forms
        children.widths[widths] = others.widths[widths]
        children.forms[forms] = others.forms[forms]

    def _mutate(self, children: Batch, genes: Ints, rng: np.random.Generator) -> None:
        """Change one to three decisions of every child; widths by small steps, mostly."""
        encoding = self.encoding
        drivers = len(encoding.drivers)
        for row in range(len(children)):
            for gene in genes[rng.integers(0, len(genes), rng.integers(1, 4))]:
                if gene >= drivers:
                    options = encoding.choices[gene - drivers]
                    children.forms[row, gene - drivers] = options[rng.integers(len(options))]
                else:
                    step = int(rng.choice((-3, -2, -1, 1, 2, 3)))
                    now = int(children.widths[row, gene])
                    last = int(encoding.counts[gene]) - 1
                    children.widths[row, gene] = min(max(now + step, 0), last)


def _membership(
    encoding: Encoding, groups: Sequence[Sequence[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return which drivers and which layers belong to each group: [groups, ...] of bool."""
    widths = [[x.name in group for x in encoding.drivers] for group in groups]
    forms = [[x.name in group for x in encoding.layers] for group in groups]
    shape = (len(groups), len(encoding.drivers))
    return np.asarray(widths, dtype=bool).reshape(shape), np.asarray(forms, dtype=bool)
