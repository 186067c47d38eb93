"""Ablations: one kind of decision after the other, and parts taken away."""

from __future__ import annotations

from typing import Any

import pytest

from host.policy import uncompressed
from host.search.episode import best
from tests.host.search.frontier.test_strategy import QUICK, run
from tests.host.search.toy import GRAPH, TARGET_MS, problem

EPISODES = 12
WHOLE = uncompressed(GRAPH)


def widths(policy: Any) -> list[int]:
    return [p.keep for p in policy.layers]


def formats(policy: Any) -> list[tuple[str, int, int]]:
    return [(p.mode, p.weight_bits, p.act_bits) for p in policy.layers]


@pytest.mark.parametrize(
    ("order", "first", "second"),
    [("prune-first", formats, widths), ("quantize-first", widths, formats)],
)
def test_one_kind_of_decision_after_the_other(order: str, first: Any, second: Any) -> None:
    episodes = run(problem(1, EPISODES, **QUICK, order=order), "frontier")
    half = EPISODES // 2
    assert all(first(e.policy) == first(WHOLE) for e in episodes[:half])
    decided = [second(e.policy) for e in episodes[:half]]
    assert all(second(e.policy) in decided for e in episodes[half:])
    assert len({str(first(e.policy)) for e in episodes[half:]}) > 1
    assert best(episodes).latency_ms == pytest.approx(TARGET_MS, rel=0.05)


@pytest.mark.parametrize("part", ["agents", "high_level", "counters", "sensitivity", "surrogate"])
def test_without_a_part_it_still_meets_the_target(part: str) -> None:
    episodes = run(problem(1, EPISODES, **QUICK, **{part: False}), "frontier")
    assert best(episodes).latency_ms == pytest.approx(TARGET_MS, rel=0.03)
