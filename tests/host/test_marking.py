"""What answers are expected to be: a count with the noise of few images taken out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from host.marking import Floats, expected_right, margins

MARGINS = st.lists(st.floats(-50, 50), min_size=1, max_size=40).map(np.asarray)


def drawn(rng: np.random.Generator, images: int, changed: float) -> tuple[Floats, Floats]:
    """Return margins of images before and after a change that knows nothing of them."""
    whole = rng.normal(5.0, 3.0, images)
    return whole, whole + rng.normal(-0.3, changed, images)


def test_a_margin_is_the_lead_of_the_right_class() -> None:
    logits = np.asarray([[1.0, 4.0, 2.0], [3.0, 0.5, 1.0]], dtype=np.float32)
    assert margins(logits, np.asarray([1, 2])).tolist() == [2.0, -2.0]
    assert logits[0, 1] == 4.0


@given(whole=MARGINS)
def test_what_did_not_change_is_counted(whole: Floats) -> None:
    assert expected_right(whole, whole) == pytest.approx((whole > 0).sum())


@given(whole=MARGINS, shift=st.integers(-40, 40))
def test_what_changed_alike_is_counted(whole: Floats, shift: int) -> None:
    whole = np.round(whole)  # so that sums are exact
    assert expected_right(whole, whole + shift) == pytest.approx((whole + shift > 0).sum())


@given(whole=MARGINS, data=st.data())
def test_pairs_are_what_is_counted(whole: Floats, data: st.DataObject) -> None:
    image = st.integers(-100, 100)
    changes = np.asarray(data.draw(st.lists(image, min_size=len(whole), max_size=len(whole))))
    whole = np.round(whole)
    stays: NDArray[np.bool_] = whole[:, None] + changes[None] > 0
    found = expected_right(whole, whole + changes)
    assert found == pytest.approx(stays.mean(axis=1).sum())
    assert 0 <= found <= len(whole)


def test_few_images_say_more_than_by_counting() -> None:
    rng = np.random.default_rng(0)
    many = drawn(rng, 200_000, 1.0)
    truth = ((many[0] > 0).mean() - (many[1] > 0).mean()) * 300
    errors = []
    for _ in range(200):
        whole, compressed = drawn(rng, 300, 1.0)
        before = (whole > 0).sum()
        counted, expected = (compressed > 0).sum(), expected_right(whole, compressed)
        errors.append((before - counted - truth, before - expected - truth))
    by_counting, by_expecting = np.sqrt(np.mean(np.square(errors), axis=0))
    assert by_expecting < 0.7 * by_counting
