"""Reading a tensor through view steps: as index arithmetic for kernels, and as numpy indices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from host.lower.program import Shape, View, ViewStep

Index = list[Any]  # integers or TIR expressions


def physical(shape: Sequence[int], order: Sequence[int]) -> Shape:
    """Return the stored shape of a logical shape whose stored axis i is logical axis order[i]."""
    return tuple(shape[axis] for axis in order)


def natural_order(rank: int) -> tuple[int, ...]:
    """Return how tensors of a rank are stored: pictures as NHWC, all else as they are."""
    return (0, 2, 3, 1) if rank == 4 else tuple(range(rank))


def source_index(steps: Sequence[ViewStep], base: Shape, index: Index) -> tuple[Index, list[Any]]:
    """Return the base index that a view's index reads, and the conditions under which it exists.

    Works on integers and on TIR expressions alike; outside the conditions (padding) the value is 0.
    """
    conditions: list[Any] = []
    shapes = [base, *(step.shape for step in steps)]
    for step, before in zip(reversed(steps), reversed(shapes[:-1]), strict=True):
        index = _BACK[step.op](step, before, index, conditions)
    return index, conditions


def is_alias(view: View, base_order: Sequence[int], order: Sequence[int]) -> bool:
    """Whether the view, stored in `order`, is byte for byte the base stored in `base_order`."""
    if any(step.op in ("pad", "expand") for step in view.steps):
        return False
    count = math.prod(view.base_shape)
    if math.prod(view.shape) != count:
        return False
    stored = np.arange(count).reshape(physical(view.base_shape, base_order))
    seen = stored.transpose(np.argsort(base_order))
    for step in view.steps:
        seen = _FORWARD[step.op](seen, step)
    return bool((seen.transpose(order).ravel() == np.arange(count)).all())


@lru_cache(maxsize=1024)
def strides(
    steps: tuple[ViewStep, ...], stored: Shape, order: tuple[int, ...]
) -> tuple[int, tuple[int, ...]] | None:
    """Return (offset, stride per axis) of a view into its stored tensor; None where it has none."""
    if any(step.op == "pad" for step in steps):
        return None
    count = math.prod(stored)
    seen = np.arange(count).reshape(stored).transpose(np.argsort(order))
    for step in steps:
        seen = _FORWARD[step.op](seen, step)
    offset = int(seen.flat[0])
    units = []
    for axis, extent in enumerate(seen.shape):
        units.append(int(seen.take(1, axis).flat[0]) - offset if extent > 1 else 0)
    grid = np.indices(seen.shape, sparse=True)
    regular = offset + sum(index * unit for index, unit in zip(grid, units, strict=True))
    return (offset, tuple(units)) if np.array_equal(np.asarray(regular), seen) else None


def _back_permute(step: ViewStep, before: Shape, index: Index, _: list[Any]) -> Index:
    result = [None] * len(index)
    for i, dim in enumerate(step.params):
        result[dim] = index[i]
    return result


def _back_slice(step: ViewStep, before: Shape, index: Index, _: list[Any]) -> Index:
    dim, start, stride = step.params
    return [i * stride + start if d == dim else i for d, i in enumerate(index)]


def _back_select(step: ViewStep, before: Shape, index: Index, _: list[Any]) -> Index:
    dim, position = step.params
    return [*index[:dim], position, *index[dim:]]


def _back_reshape(step: ViewStep, before: Shape, index: Index, _: list[Any]) -> Index:
    flat: Any = 0
    for extent, i in zip(step.shape, index, strict=True):
        flat = flat * extent + i if extent != 1 else flat
    result: Index = []
    for axis, extent in enumerate(before):
        below = math.prod(before[axis + 1 :])
        above = math.prod(before[:axis])
        if extent == 1:
            result.append(0)
        else:
            outer = flat if below == 1 else flat // below
            result.append(outer if above == 1 else outer % extent)
    return result


def _back_expand(step: ViewStep, before: Shape, index: Index, _: list[Any]) -> Index:
    own = index[len(index) - len(before) :]
    return [0 if extent == 1 else i for extent, i in zip(before, own, strict=True)]


def _back_pad(step: ViewStep, before: Shape, index: Index, conditions: list[Any]) -> Index:
    shifted = []
    for pad, extent, full, i in zip(step.params, before, step.shape, index, strict=True):
        if full == extent:
            shifted.append(i)
            continue
        conditions.append(i >= pad)
        conditions.append(i < pad + extent)
        shifted.append(i - pad)
    return shifted


_BACK: dict[str, Callable[[ViewStep, Shape, Index, list[Any]], Index]] = {
    "permute": _back_permute,
    "slice": _back_slice,
    "select": _back_select,
    "reshape": _back_reshape,
    "expand": _back_expand,
    "pad": _back_pad,
}


def _forward_slice(seen: np.ndarray, step: ViewStep) -> np.ndarray:
    dim, start, stride = step.params
    picks = start + stride * np.arange(step.shape[dim])
    taken: np.ndarray = seen.take(picks, axis=dim)
    return taken


_FORWARD: dict[str, Callable[[np.ndarray, ViewStep], np.ndarray]] = {
    "permute": lambda seen, step: seen.transpose(step.params),
    "slice": _forward_slice,
    "select": lambda seen, step: seen.take(step.params[1], axis=step.params[0]),
    "reshape": lambda seen, step: seen.reshape(step.shape),
    "expand": lambda seen, step: np.broadcast_to(seen, step.shape),
}
