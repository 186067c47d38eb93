"""Pointwise chains, copies into another layout and concatenation: one output element per input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import te, tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit, pointwise, rows, schedule
from host.lower.kernels.dense_fp32 import unravel
from host.lower.kernels.kernel import Accessor, Cost, Kernel, logical
from host.lower.program import Shape, Step
from host.lower.targets import Target
from host.lower.views import physical, strides

# Planes that are interleaved as whole vectors: pictures have three.
MOST_PLANES = 4


@dataclass(frozen=True)
class Elementwise(Kernel):
    """post(operand 0, other operands), stored in `order`."""

    kind: ClassVar[str] = "elementwise"
    shape: Shape
    order: tuple[int, ...]
    operands: tuple[Accessor, ...]
    post: tuple[Step, ...] = ()

    @property
    def out_shape(self) -> Shape:
        return physical(self.shape, self.order)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        tensors = [a.placeholder(f"x{i}") for i, a in enumerate(self.operands)]

        def element(*stored: Any) -> Any:
            index = logical(stored, self.order)

            def read(k: int) -> Any:
                return self.operands[k].read(tensors[k], index)

            return pointwise.apply(read(0), self.post, read)

        out = te.compute(self.out_shape, element, name="out")
        s = schedule.create([*tensors, out])
        schedule.rows(s, s.get_sblock("out"), target.fp32_lanes)
        return schedule.finish(s)

    def cost(self) -> Cost:
        elements = math.prod(self.shape)
        read = sum(min(a.elements, elements) for a in self.operands)
        return Cost(
            ops=elements * max(1, pointwise.ops(self.post)),
            bytes_read=4 * read,
            bytes_written=4 * elements,
        )


@dataclass(frozen=True)
class Copy(Elementwise):
    """An operand in another layout."""

    kind: ClassVar[str] = "layout"

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        steps = self._planes()
        return super().prim_func(target) if steps is None else self._interleaved(*steps, target)

    def _planes(self) -> tuple[int, list[int]] | None:
        """Return (offset, stride per stored axis) where a few planes are to be interleaved."""
        (operand,) = self.operands
        found = strides(operand.steps, operand.shape, operand.order)
        if found is None or len(self.shape) < 2:
            return None
        units = [found[1][axis] for axis in self.order]
        *_, width, planes = self.out_shape
        few = 1 < planes <= MOST_PLANES and width > 1 and units[-2] == 1
        return (found[0], units) if few else None

    def _interleaved(self, offset: int, units: list[int], target: Target) -> tirx.PrimFunc:
        """Emit lines of vectors of each plane, stored element by element in turn."""
        *lead, width, planes = self.out_shape
        lines = math.prod(lead)

        def body(x: Any, out: Any) -> None:
            walk = rows.Walk(width, target.fp32_lanes)
            source = T.decl_buffer((self.operands[0].elements,), "float32", data=x.data)
            made = T.decl_buffer((math.prod(self.out_shape),), "float32", data=out.data)

            def line(row: Any) -> None:
                first = offset
                for i, unit in zip(unravel(row, tuple(lead)), units, strict=False):
                    first = first + i * unit

                def pixels(start: Any, lanes: int, seen: int) -> None:
                    starts = [first + plane * units[-1] + start for plane in range(planes)]
                    loaded = [source.vload([at], f"float32x{lanes}") for at in starts]
                    turns = [p * lanes + i for i in range(lanes) for p in range(planes)]
                    place = tirx.Ramp((row * width + start) * planes, 1, planes * lanes)
                    T.buffer_store(made, tirx.Shuffle(loaded, turns), [place])

                walk.all(pixels)

            rows.each(lines, width * planes, line)

        parameters = [("x", self.operands[0].shape, "float32"), ("out", self.out_shape, "float32")]
        return emit.function(parameters, body)


@dataclass(frozen=True)
class Concatenate(Kernel):
    """Operands one after the other along logical axis `dim`."""

    kind: ClassVar[str] = "layout"
    shape: Shape
    order: tuple[int, ...]
    dim: int
    extents: tuple[int, ...]
    operands: tuple[Accessor, ...]

    @property
    def out_shape(self) -> Shape:
        return physical(self.shape, self.order)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        tensors = [a.placeholder(f"x{i}") for i, a in enumerate(self.operands)]

        def element(*stored: Any) -> Any:
            index = logical(stored, self.order)
            value: Any = None
            end = sum(self.extents)
            for k in reversed(range(len(self.operands))):
                start = end - self.extents[k]
                own = [i - start if d == self.dim else i for d, i in enumerate(index)]
                here = self.operands[k].read(tensors[k], own)
                before = index[self.dim] < end
                value = here if value is None else tirx.if_then_else(before, here, value)
                end = start
            return value

        out = te.compute(self.out_shape, element, name="out")
        s = schedule.create([*tensors, out])
        schedule.rows(s, s.get_sblock("out"), target.fp32_lanes)
        return schedule.finish(s)

    def cost(self) -> Cost:
        elements = math.prod(self.shape)
        return Cost(ops=elements, bytes_read=4 * elements, bytes_written=4 * elements)
