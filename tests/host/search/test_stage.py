"""Stages: what may not be decided stays as in the base, whatever evolves."""

from __future__ import annotations

import numpy as np
import pytest

from host.encoding import Batch, Encoding, Floats
from host.policy import uncompressed
from host.search.islands import Islands, IslandSettings
from host.search.stage import JOINT, Stage
from tests.host.search.toy import GRAPH, SPACE

ENCODING = Encoding(SPACE)
BASE = ENCODING.batch([uncompressed(GRAPH)])
DRIVERS, LAYERS = len(ENCODING.drivers), len(ENCODING.layers)


def evolved(stage: Stage) -> Batch:
    """Evolve towards low numbers of everything."""

    def forecasts(batch: Batch) -> Floats:
        return -np.stack([batch.widths.sum(1), -batch.forms.sum(1)], 1).astype(float)

    islands = Islands(ENCODING, [[x.name] for x in GRAPH.layers], IslandSettings(8, 8, 10))
    rng = np.random.default_rng(0)
    start = ENCODING.random(16, rng)
    (population,) = islands.evolve(start, 1, forecasts, lambda f, _: f.sum(1), rng, stage)
    return population.batch


def test_at_once_everything_is_free() -> None:
    assert JOINT.genes(ENCODING).tolist() == list(range(DRIVERS + LAYERS))
    batch = ENCODING.random(4, np.random.default_rng(0))
    assert JOINT.fixed(batch) is batch


@pytest.mark.parametrize("pruning", [True, False])
def test_what_is_not_free_stays_as_it_is(pruning: bool) -> None:
    batch = evolved(Stage(widths=pruning, forms=not pruning, base=BASE))
    held, free = (batch.forms, batch.widths) if pruning else (batch.widths, batch.forms)
    assert (held == (BASE.forms if pruning else BASE.widths)).all()
    assert (free != (BASE.widths if pruning else BASE.forms)).any()


def test_genes_are_of_what_is_free() -> None:
    assert Stage(forms=False, base=BASE).genes(ENCODING).tolist() == list(range(DRIVERS))
    formats = Stage(widths=False, base=BASE).genes(ENCODING)
    assert formats.tolist() == list(range(DRIVERS, DRIVERS + LAYERS))
