"""View steps mean what numpy means by them."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from host.lower.program import View
from host.lower.views import is_alias, natural_order, physical, source_index, strides


@st.composite
def chains(draw: st.DrawFn) -> tuple[View, np.ndarray]:
    """Return a view of a random tensor and the same thing computed by numpy."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)))
    values = np.arange(1, math.prod(shape) + 1).reshape(shape)
    view = View("x", shape)
    for _ in range(draw(st.integers(0, 4))):
        view, values = draw(st.sampled_from((_permute, _slice, _select, _reshape, _pad)))(
            draw, view, values
        )
    return view, values


def _permute(draw: st.DrawFn, view: View, values: np.ndarray) -> tuple[View, np.ndarray]:
    dims = tuple(draw(st.permutations(range(values.ndim))))
    values = values.transpose(dims)
    return view.then("permute", dims, values.shape), values


def _slice(draw: st.DrawFn, view: View, values: np.ndarray) -> tuple[View, np.ndarray]:
    dim = draw(st.integers(0, values.ndim - 1))
    start = draw(st.integers(0, values.shape[dim] - 1))
    step = draw(st.integers(1, 2))
    index = tuple(slice(start, None, step) if d == dim else slice(None) for d in range(values.ndim))
    values = values[index]
    return view.then("slice", (dim, start, step), values.shape), values


def _select(draw: st.DrawFn, view: View, values: np.ndarray) -> tuple[View, np.ndarray]:
    if values.ndim < 2:
        return view, values
    dim = draw(st.integers(0, values.ndim - 1))
    index = draw(st.integers(0, values.shape[dim] - 1))
    values = values.take(index, axis=dim)
    return view.then("select", (dim, index), values.shape), values


def _reshape(draw: st.DrawFn, view: View, values: np.ndarray) -> tuple[View, np.ndarray]:
    size = values.size
    first = draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
    values = values.reshape(first, size // first)
    return view.then("reshape", (), values.shape), values


def _pad(draw: st.DrawFn, view: View, values: np.ndarray) -> tuple[View, np.ndarray]:
    amounts = [(draw(st.integers(0, 1)), draw(st.integers(0, 1))) for _ in values.shape]
    values = np.pad(values, amounts)
    return view.then("pad", tuple(a for a, _ in amounts), values.shape), values


@given(chains())
def test_an_index_of_a_view_reads_the_element_that_numpy_has_there(
    chain: tuple[View, np.ndarray],
) -> None:
    view, expected = chain
    base = np.arange(1, math.prod(view.base_shape) + 1).reshape(view.base_shape)
    for index in itertools.product(*(range(n) for n in expected.shape)):
        place, conditions = source_index(view.steps, view.base_shape, list(index))
        value = base[tuple(place)] if all(conditions) else 0
        assert value == expected[index]


@given(chains(), st.randoms(use_true_random=False))
def test_an_alias_holds_the_same_bytes_in_the_same_order(
    chain: tuple[View, np.ndarray], random: object
) -> None:
    view, expected = chain
    base_order, order = natural_order(len(view.base_shape)), natural_order(expected.ndim)
    base = np.arange(1, math.prod(view.base_shape) + 1).reshape(view.base_shape)
    if is_alias(view, base_order, order):
        assert (base.transpose(base_order).ravel() == expected.transpose(order).ravel()).all()


def test_flattening_pixels_into_tokens_is_an_alias_of_a_stored_picture() -> None:
    view = View("x", (1, 8, 4, 4)).then("reshape", (), (1, 8, 16))
    tokens = view.then("permute", (0, 2, 1), (1, 16, 8))
    assert is_alias(tokens, (0, 2, 3, 1), (0, 1, 2))
    assert not is_alias(view, (0, 2, 3, 1), (0, 1, 2))


def test_physical_shape_follows_the_order() -> None:
    assert physical((1, 3, 5, 7), (0, 2, 3, 1)) == (1, 5, 7, 3)


@given(chains())
def test_strides_reach_every_element_of_a_regular_view(chain: tuple[View, np.ndarray]) -> None:
    view, values = chain
    order = tuple(reversed(range(len(view.base_shape))))
    found = strides(view.steps, physical(view.base_shape, order), order)
    padded = any(step.op == "pad" for step in view.steps)
    if not view.steps:
        assert found is not None
    if found is None:
        return
    assert not padded
    offset, units = found
    base = np.arange(1, math.prod(view.base_shape) + 1).reshape(view.base_shape)
    stored = base.transpose(order).ravel()
    for index in itertools.product(*map(range, values.shape)):
        assert stored[offset + int(np.dot(index, units))] == values[index]


def test_heads_of_stacked_queries_are_regular_and_padding_is_not() -> None:
    view = View("qkv", (1, 5, 24)).then("reshape", (), (1, 5, 3, 2, 4))
    view = view.then("permute", (2, 0, 3, 1, 4), (3, 1, 2, 5, 4)).then(
        "select", (0, 1), (1, 2, 5, 4)
    )
    assert strides(view.steps, (1, 5, 24), (0, 1, 2)) == (8, (0, 4, 24, 1))
    wide = view.then("pad", (0, 0, 1, 0), (1, 2, 7, 4))
    assert strides(wide.steps, (1, 5, 24), (0, 1, 2)) is None
