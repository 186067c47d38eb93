"""What trials come to: best rewards by measurements, shares, fronts."""

from __future__ import annotations

import pytest

from hil_lab.bench.curves import Curve, accuracy_within, best_step, front, lead, reached
from hil_lab.bench.trace import Trace
from host.policy import Choice
from host.search.episode import Episode
from host.search.reward import absolute
from host.types import Evaluation, Figure, Provenance
from tests.host.search.toy import GRAPH, SPACE


def episode(number: int, accuracy: float, ms: float, source: Provenance = "measured") -> Episode:
    first = GRAPH.layers[0]
    policy = SPACE.policy({first.name: Choice(8 * (number % 4 + 1))})
    scored = Evaluation(accuracy, 100, "validation", 0, 0, 0, Figure(ms, source))
    return Episode(number, policy, scored, accuracy)


EPISODES = [
    episode(0, 0.5, 10.0),
    episode(1, 0.9, 10.0, "predicted"),
    episode(2, 0.7, 10.0),
    episode(3, 0.6, 5.0),
    episode(4, 0.5, 10.0),
]
TRACE = Trace.of(EPISODES, reference_ms=10.0, before=2)


def curve() -> Curve:
    return Curve.of(TRACE, absolute(), 10.0)


def test_only_measured_programs_count_and_each_of_them_once() -> None:
    assert curve().best == pytest.approx((0.5, 0.5, 0.7, 0.7, 0.7))
    assert curve().measured == (3, 3, 4, 5, 5)
    assert curve().evaluated == (1, 2, 3, 4, 4)


def test_the_best_of_a_budget() -> None:
    assert curve().at(2) == -float("inf")
    assert curve().at(3) == pytest.approx(0.5)
    assert curve().at(100) == pytest.approx(0.7)


def test_what_a_reward_took() -> None:
    assert curve().reaches(0.6) == (4, 3)
    assert curve().reaches(0.8) is None


def test_shares_of_another_search_seed_by_seed() -> None:
    other = Curve(best=(0.6,) * 10, measured=tuple(range(11, 21)), evaluated=tuple(range(1, 11)))
    assert reached({1: curve()}, {1: other, 2: other}) == [(4 / 10, 3 / 10, 4 / 20)]
    worse = Curve(best=(0.1,), measured=(3,), evaluated=(1,))
    assert reached({1: worse}, {1: other}) == [(float("inf"),) * 3]


def test_the_lead_of_equals_holds_zero() -> None:
    low, high = lead([curve(), curve()], [curve(), curve()], 10)
    assert low <= 0.0 <= high


def test_fronts_hold_what_nothing_beats() -> None:
    points = front(TRACE, 10)
    assert points == [(5.0, 0.6), (10.0, 0.7)]
    assert front(TRACE, 1) == [(10.0, 0.5)]
    assert accuracy_within(points, 6.0) == 0.6
    assert accuracy_within(points, 1.0) == 0.0


def test_the_best_step_is_a_measured_one() -> None:
    step = best_step(TRACE, absolute(), 10.0)
    assert (step.accuracy, step.measured) == (0.7, True)
