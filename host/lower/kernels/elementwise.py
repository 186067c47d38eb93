"""Pointwise chains, copies into another layout and concatenation: one output element per input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import te, tirx

from host.lower.kernels import pointwise, schedule
from host.lower.kernels.kernel import Accessor, Cost, Kernel, logical
from host.lower.program import Shape, Step
from host.lower.targets import Target
from host.lower.views import physical


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
