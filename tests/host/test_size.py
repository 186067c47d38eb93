"""Two ways to say how much smaller: bytes of the whole program, and the papers' formula."""

from __future__ import annotations

from dataclasses import replace

import pytest

from host.policy import LayerPolicy, Policy
from host.size import compression, papers_ratio, times_smaller
from host.types import Evaluation

WHOLE = Policy((LayerPolicy("a", 16), LayerPolicy("b", 64)))


def row(policy: Policy, size_bytes: int) -> dict[str, object]:
    scored = Evaluation(0.9, 100, "test", 0, 0, size_bytes)
    return {"policy": policy.to_dict(), "evaluation": scored.to_dict()}


def test_the_uncompressed_policy_is_one_by_either() -> None:
    assert papers_ratio(WHOLE, WHOLE) == 1.0
    assert times_smaller(1000, 1000) == 1.0


def test_int8_everywhere_is_four_by_the_papers() -> None:
    int8 = Policy(tuple(replace(p, mode="int8", weight_bits=8, act_bits=8) for p in WHOLE.layers))
    assert papers_ratio(int8, WHOLE) == pytest.approx(4.0)


def test_the_papers_weigh_all_layers_alike() -> None:
    policy = Policy((LayerPolicy("a", 4), LayerPolicy("b", 64, "mix", 4, 4)))
    assert papers_ratio(policy, WHOLE) == pytest.approx(1 / ((4 / 16 + 4 / 32) / 2))


def test_a_row_has_both_ratios() -> None:
    whole, half = row(WHOLE, 1000), row(Policy((LayerPolicy("a", 8), LayerPolicy("b", 32))), 400)
    assert compression(half, whole) == {"times_smaller": 2.5, "papers_ratio": 2.0}


def test_weights_that_are_left_are_counted_where_rows_have_them() -> None:
    whole = row(WHOLE, 1000)
    assert "fewer_weights" not in compression(whole, whole)
    counted = compression(whole | {"weights": 50}, whole | {"weights": 450})
    assert counted["fewer_weights"] == 9.0
