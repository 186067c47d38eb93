"""Samplers: nothing twice, the same seed the same samples, and uncertainty where it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host.artifact import Artifact
from host.dataset.records import Sample
from host.dataset.sampling import ROUND, SAMPLERS, Known
from host.dataset.spaces import Program, Row, Spec


class Numbers:
    """Programs that are numbers below a limit; the kernel of `n` has n multiply-accumulates."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def draw(self, rng: np.random.Generator) -> Spec:
        return {"n": int(rng.integers(self.limit))}

    def grid(self) -> Iterator[Spec]:
        return ({"n": n} for n in range(self.limit))

    def columns(self, spec: Spec) -> dict[str, Any]:
        return dict(spec)

    def plan(self, spec: Spec) -> Program:
        return Program(f"structure {spec['n']}", (row(spec["n"]),))

    def build(self, spec: Spec, folder: Path) -> Artifact:
        raise NotImplementedError


def row(macs: int) -> Row:
    return Row("layer", "conv_fp32", macs, 0, 0, 0, 0, 32, 32)


def drawn(
    name: str, count: int, limit: int = 10_000, known: Known = (), seed: int = 1
) -> list[Sample]:
    return SAMPLERS[name](seed).draw(Numbers(limit), count, [], known)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_nothing_is_drawn_twice_and_the_same_seed_draws_the_same(name: str) -> None:
    one, space = drawn(name, 50), Numbers(10_000)
    assert one == drawn(name, 50)
    assert len({s.structure for s in one}) == 50
    more = SAMPLERS[name](1).draw(space, 20, one, ())
    assert [s.number for s in [*one, *more]] == list(range(70))
    assert not {s.structure for s in one} & {s.structure for s in more}


@pytest.mark.parametrize("name", ["random", "uncertain"])
def test_another_seed_draws_others(name: str) -> None:
    assert drawn(name, 10, seed=1) != drawn(name, 10, seed=2)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_space_that_is_used_up_ends_the_drawing(name: str) -> None:
    assert len(drawn(name, 50, limit=7)) == 7


def test_uncertain_ones_are_where_neighbours_differ_most() -> None:
    # Below 5000 all programs take alike; above, latency jumps between 1 and 100 ms.
    told = [*range(100, 5000, 100), *range(5000, 10_000, 250)]
    known = [((row(n),), 1.0 if n < 5000 or n % 500 else 100.0) for n in told]
    chosen = drawn("uncertain", 20, known=known)
    assert np.mean([sample.spec["n"] >= 5000 for sample in chosen]) >= 0.9


def test_rounds_are_as_long_as_a_forecast_is_kept() -> None:
    assert SAMPLERS["uncertain"](0).round == ROUND
    assert SAMPLERS["random"](0).round is SAMPLERS["grid"](0).round is None
