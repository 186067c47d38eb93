"""Scheduling moves that several families share; never a decision about one family."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm import s_tir, te, tirx
from tvm.script.ir_builder import tirx as T

# Below this many elements starting the thread pool costs more than it saves.
MIN_PARALLEL_ELEMENTS = 8192


def loop(elements: int) -> Callable[[int, Any], Any]:
    """Return the loop of an emitted kernel: over all threads where its elements are worth it."""
    chosen: Callable[[int, Any], Any] = T.serial
    if elements >= MIN_PARALLEL_ELEMENTS:
        chosen = T.parallel
    return chosen


def create(parameters: list[te.Tensor]) -> s_tir.Schedule:
    """Return the schedule of a TE computation; the destination is the last parameter."""
    return s_tir.Schedule(te.create_prim_func(parameters))


def finish(schedule: s_tir.Schedule) -> tirx.PrimFunc:
    """Return the scheduled function, its buffers declared disjoint."""
    function = schedule.mod["main"]
    return function.with_attr({"tirx.noalias": True, "tirx.is_scheduled": True})


def extents(schedule: s_tir.Schedule, loops: list[Any]) -> list[int]:
    """Return the constant extents of loops."""
    return [int(schedule.get(loop).extent) for loop in loops]


def rows(schedule: s_tir.Schedule, block: Any, lanes: int) -> None:
    """Schedule an elementwise block: vectors along the last axis, threads over the others."""
    *outer, last = schedule.get_loops(block)
    elements = math.prod(extents(schedule, [*outer, last]))
    width = extents(schedule, [last])[0]
    if width > lanes:
        chunk = next((c for c in (4 * lanes, 2 * lanes, lanes) if width % c == 0), lanes)
        rest, inner = schedule.split(last, [None, chunk])
        schedule.vectorize(inner)
        outer = [*outer, rest]
    elif width > 1:
        schedule.vectorize(last)
    if outer and elements >= MIN_PARALLEL_ELEMENTS:
        schedule.parallel(schedule.fuse(*outer))


def reduction(schedule: s_tir.Schedule, block: Any, axes: int, lanes: int) -> None:
    """Schedule a reduction over the last `axes` loops with vectors along the last spatial axis."""
    loops = schedule.get_loops(block)
    spatial, reduce = loops[:-axes], loops[-axes:]
    width = extents(schedule, [spatial[-1]])[0]
    chunk = next((c for c in (4 * lanes, 2 * lanes, lanes) if width % c == 0), 0)
    if chunk:
        rest, inner = schedule.split(spatial[-1], [None, chunk])
        schedule.reorder(rest, *reduce, inner)
        schedule.vectorize(inner)
    init = schedule.decompose_reduction(block, reduce[0])
    if chunk:
        schedule.vectorize(schedule.get_loops(init)[-1])
