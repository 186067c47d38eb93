"""int32 accumulators back to float32: correction, scale, bias, then pointwise steps."""

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
class Epilogue(Kernel):
    """acc [M, N] int32, correction [O] int32, scale [O], bias [O], operands -> stored `shape`.

    y = (acc + correction) * scale + bias. Channels are the last stored axis; the others, flattened,
    are the first rows of acc.
    """

    kind: ClassVar[str] = "epilogue"
    shape: Shape
    order: tuple[int, ...]
    acc_shape: Shape
    operands: tuple[Accessor, ...] = ()
    post: tuple[Step, ...] = ()

    @property
    def out_shape(self) -> Shape:
        return physical(self.shape, self.order)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        channels = self.out_shape[-1]
        acc = te.placeholder(self.acc_shape, "int32", "acc")
        correction = te.placeholder((channels,), "int32", "correction")
        scale = te.placeholder((channels,), "float32", "scale")
        bias = te.placeholder((channels,), "float32", "bias")
        extra = [a.placeholder(f"r{i}") for i, a in enumerate(self.operands)]

        def element(*stored: Any) -> Any:
            row: Any = 0
            for extent, i in zip(self.out_shape[:-1], stored[:-1], strict=True):
                row = row * extent + i
            o = stored[-1]
            value = (acc[row, o] + correction[o]).astype("float32") * scale[o] + bias[o]
            index = logical(stored, self.order)
            return pointwise.apply(
                value, self.post, lambda k: self.operands[k].read(extra[k], index)
            )

        out = te.compute(self.out_shape, element, name="out")
        s = schedule.create([acc, correction, scale, bias, *extra, out])
        schedule.rows(s, s.get_sblock("out"), target.fp32_lanes)
        return schedule.finish(s)

    def cost(self) -> Cost:
        elements = math.prod(self.shape)
        extra = sum(a.elements for a in self.operands)
        return Cost(
            ops=elements * (4 + pointwise.ops(self.post)),
            bytes_read=4 * (elements + extra),
            bytes_written=4 * elements,
            weight_bytes=12 * self.out_shape[-1],
        )
