"""Comparisons: nine blocks each, a threshold that matters, and honest doubt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from host.boards.compare import BLOCKS, block_medians, compare
from host.boards.protocol import QUICK, REPORT, SEARCH
from host.boards.types import Block, Measurement
from host.errors import CallerError


def measured(
    ratio: float = 1.0, seed: int = 0, sigma: float = 0.005, blocks: int = 9, runs: int = 40
) -> Measurement:
    rng = np.random.default_rng(seed)
    made = [
        Block(
            tuple((1e6 * ratio * np.exp(rng.normal(0, sigma, runs))).astype(int).tolist()), 10, True
        )
        for _ in range(blocks)
    ]
    return Measurement("a", "s", "pi", {"kind": "rpi4"}, REPORT, tuple(made), "trusted")


@pytest.mark.parametrize(("ratio", "outcome"), [(1.03, "slower"), (0.97, "faster"), (1.0, "same")])
def test_a_difference_is_named(ratio: float, outcome: str) -> None:
    found = compare(measured(), measured(ratio, seed=1))
    assert (found.outcome, found.blocks, found.pieces) == (outcome, (9, 9), False)
    assert found.ratio == pytest.approx(ratio, abs=0.003)


def test_a_difference_that_matters_to_nobody_is_none() -> None:
    found = compare(measured(), measured(1.012, seed=1))
    assert found.outcome == "same" and found.p < 0.001


def test_noise_that_could_make_the_difference_leaves_it_unclear() -> None:
    noisy = [measured(seed=seed, sigma=0.6, runs=9) for seed in (1, 3)]
    found = compare(*noisy)
    assert abs(found.ratio - 1) > 0.02 and found.p > 0.05
    assert found.outcome == "unclear"


def test_fewer_blocks_are_cut_in_parts_and_say_so() -> None:
    assert len(block_medians(measured(blocks=5))) == 10
    assert len(block_medians(measured(blocks=1))) == BLOCKS
    assert compare(measured(blocks=5), measured(blocks=5, seed=1)).pieces


def test_too_few_runs_are_refused() -> None:
    with pytest.raises(CallerError, match="too few to compare"):
        compare(measured(blocks=1, runs=8), measured())


def test_unlike_measurements_are_refused() -> None:
    with pytest.raises(CallerError, match="two protocols"):
        compare(measured(), replace(measured(), protocol=SEARCH))
    with pytest.raises(CallerError, match="two kinds of board"):
        compare(measured(), replace(measured(), fingerprint={"kind": "local"}))


def test_equal_samples_are_the_same() -> None:
    block = Block((1000,) * 9, 10, True)
    made = replace(measured(), protocol=QUICK, blocks=(block,))
    assert compare(made, made).outcome == "same" and compare(made, made).p == 1.0


def test_alarms_are_rare_and_three_percent_is_seen() -> None:
    """Of 300 equal pairs none, of 300 pairs 3 % apart at least 99 in 100."""
    seeds = range(50_000, 50_300)
    equal = [compare(measured(seed=s), measured(seed=s + 1000)).outcome for s in seeds]
    apart = [compare(measured(seed=s), measured(1.03, seed=s + 1000)).outcome for s in seeds]
    assert equal.count("same") == 300
    assert apart.count("slower") >= 297
