"""Evolution finds the known best of a problem that falls apart into single decisions."""

from __future__ import annotations

import numpy as np

from host.encoding import Batch, Encoding, Floats
from host.search.islands import Islands, IslandSettings
from tests.host.search.toy import SPACE

ENCODING = Encoding(SPACE)
GROUPS = [[layer.name] for layer in SPACE.graph.layers]


def forecasts(batch: Batch) -> Floats:
    """Distance of the widths, and of the forms, from the first of each."""
    return np.stack([batch.widths.sum(1), batch.forms.sum(1)], 1).astype(float)


def score(figures: Floats, target: int) -> Floats:
    """The first target wants narrow layers of the first form, the second one wide ones."""
    widths = figures[:, 0] if target else -figures[:, 0]
    return np.asarray(widths - figures[:, 1])


def test_every_island_finds_its_best_policy() -> None:
    rng = np.random.default_rng(0)
    islands = Islands(ENCODING, GROUPS, IslandSettings(generations=250))
    narrow, wide = islands.evolve(ENCODING.random(64, rng), 2, forecasts, score, rng)
    assert narrow.figures[0].tolist() == [0.0, 0.0]
    assert wide.figures[0].tolist() == [float((ENCODING.counts - 1).sum()), 0.0]


def test_the_same_seed_gives_the_same_populations() -> None:
    found = []
    for _ in range(2):
        rng = np.random.default_rng(3)
        populations = Islands(ENCODING, GROUPS, IslandSettings(generations=5)).evolve(
            ENCODING.random(16, rng), 2, forecasts, score, rng
        )
        found.append([population.batch.keys() for population in populations])
    assert found[0] == found[1]
