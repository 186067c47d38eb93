"""A count stops only where the floor is refuted, as often wrongly as stated and no more."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from host.data import load_data
from host.exam import Exam, grade, hopeless, needed_accuracy, probability_at_most
from host.policy import uncompressed
from host.search.reward import absolute
from tests.host.search.toy import GRAPH, evaluate

SIZES = (100, 100, 100, 100)


@given(total=st.integers(1, 600), data=st.data())
def test_the_probability_is_the_hypergeometric_one(total: int, data: st.DataObject) -> None:
    seen, needed = data.draw(st.integers(1, total)), data.draw(st.integers(0, total))
    correct = data.draw(st.integers(0, seen))
    expected = hypergeom.cdf(correct, total, needed, seen)
    assert probability_at_most(correct, seen, needed, total) == pytest.approx(expected, abs=1e-9)


def test_what_cannot_be_reached_any_more_is_hopeless() -> None:
    assert hopeless(0, 60, 100, 0.5)
    assert hopeless(1, 1, 100, 1.01)


def test_what_may_still_be_reached_is_not() -> None:
    assert not hopeless(45, 60, 100, 0.75)
    assert not hopeless(0, 1, 100, 0.5)


@given(counts=st.tuples(*[st.integers(0, 100)] * 4), floor=st.floats(0, 1.2))
def test_a_count_in_full_is_never_below_what_a_stop_refuted_for_certain(
    counts: tuple[int, ...], floor: float
) -> None:
    graded = grade(SIZES, counts.__getitem__, floor)
    assert graded == counts[: len(graded)]
    assert grade(SIZES, counts.__getitem__, None) == counts


@given(counts=st.tuples(*[st.integers(0, 100)] * 4), floors=st.tuples(*[st.floats(0, 1)] * 2))
def test_a_higher_floor_never_counts_more(
    counts: tuple[int, ...], floors: tuple[float, float]
) -> None:
    low, high = (len(grade(SIZES, counts.__getitem__, floor)) for floor in sorted(floors))
    assert high <= low


def test_the_stated_confidence_holds_over_all_looks() -> None:
    rng, floor, runs = np.random.default_rng(0), 0.8, 2000
    wrong = 0
    for _ in range(runs):
        answers = rng.permutation(np.arange(400) < 320)  # just reaches the floor
        counts = answers.reshape(4, 100).sum(1)
        seen = np.cumsum(counts)[:3]
        wrong += any(
            hopeless(int(c), 100 * (i + 1), 400, floor, looks=3, confidence=0.95)
            for i, c in enumerate(seen)
        )
    assert wrong / runs <= 0.05


def test_a_clearly_worse_candidate_is_stopped_at_the_first_look() -> None:
    assert len(grade((256,) * 4, [150, 160, 155, 150].__getitem__, 0.85)) == 1


def test_the_accuracy_that_a_reward_needs() -> None:
    known = evaluate(uncompressed(GRAPH))
    assert known.latency_ms is not None
    reward, target_ms = absolute(), known.latency_ms.value
    needed = needed_accuracy(lambda e: reward(e, target_ms), known, 0.9)
    assert needed == pytest.approx(0.9, abs=1e-5)
    off = needed_accuracy(lambda e: reward(e, target_ms / 1.1), known, 0.9)
    assert off == math.inf  # 10 % too slow costs 0.3
    assert needed_accuracy(lambda e: reward(e, target_ms), known, -1.0) is None


def test_an_exam_shuffles_once_and_always_in_the_same_way() -> None:
    data = load_data("digits")
    plain, shuffled, again = (Exam.of(data, 100, shuffled=s) for s in (False, True, True))
    assert np.array_equal(shuffled.images.images, again.images.images)
    assert not np.array_equal(plain.images.labels, shuffled.images.labels)
    assert sorted(plain.images.labels) == sorted(shuffled.images.labels)
    assert sum(plain.sizes) == 100
    assert plain.name(0) != shuffled.name(0)


def test_a_batch_of_an_exam_is_what_accuracy_runs() -> None:
    data = load_data("digits")
    exam = Exam.of(data, None)
    x, labels = exam.batch(1)
    expected = list(data.batches("validation", 256))[1]
    assert np.array_equal(x.numpy(), expected[0].numpy())
    assert np.array_equal(labels, expected[1].numpy())
