"""Intervals of medians: exact, of all samples, wider where samples depend on each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.stats import independent, median_interval


def normal(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(100.0, 1.0, count)


@settings(deadline=None)
@given(st.lists(st.floats(1.0, 1e6), min_size=20, max_size=80))
def test_the_median_lies_in_its_interval(samples: list[float]) -> None:
    found = median_interval(samples)
    assert found.low <= found.median <= found.high


def test_one_sample_and_equal_samples_have_no_width() -> None:
    for samples in ([5.0], [5.0] * 40):
        found = median_interval(samples)
        assert (found.low, found.median, found.high) == (5.0, 5.0, 5.0)
    with pytest.raises(ValueError, match="no samples"):
        median_interval([])


def test_four_times_the_samples_halve_the_width() -> None:
    widths = []
    for count in (500, 2000, 8000):
        found = [median_interval(normal(count, seed).tolist()) for seed in range(20)]
        widths.append(np.mean([i.high - i.low for i in found]))
    assert widths[0] / widths[1] == pytest.approx(2.0, rel=0.15)
    assert widths[1] / widths[2] == pytest.approx(2.0, rel=0.15)


def test_five_blocks_reach_a_little_beyond_their_ends() -> None:
    found = median_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert 0.7 < found.low < 1.0 and 5.0 < found.high < 5.3


def test_independent_samples_count_in_full_and_repeated_ones_do_not() -> None:
    drawn = normal(1000)
    assert independent(drawn) > 900
    assert independent(np.repeat(drawn[:100], 10)) == pytest.approx(100, rel=0.4)


def test_fewer_than_twenty_have_no_order_to_speak_of() -> None:
    assert independent(np.arange(19.0)) == 19.0
