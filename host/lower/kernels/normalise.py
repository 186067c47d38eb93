"""Row-wise normalisations: softmax and layer norm over the last axis of [rows, width]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import te, tirx

from host.lower.kernels import pointwise, schedule
from host.lower.kernels.kernel import Cost, Kernel
from host.lower.program import Shape
from host.lower.targets import Target


def _f(value: float) -> Any:
    return tirx.const(value, "float32")


@dataclass(frozen=True)
class Softmax(Kernel):
    """x [rows, width] -> exp(x - max) / sum, row by row."""

    kind: ClassVar[str] = "softmax"
    rows: int
    width: int

    @property
    def out_shape(self) -> Shape:
        return (self.rows, self.width)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        x = te.placeholder(self.out_shape, "float32", "x")
        k, j = (te.reduce_axis((0, self.width), name) for name in "kj")
        top = te.compute((self.rows,), lambda r: te.max(x[r, k], axis=[k]), name="top")
        power = te.compute(
            self.out_shape, lambda r, c: pointwise.fast_exp(x[r, c] - top[r]), name="power"
        )
        total = te.compute((self.rows,), lambda r: te.sum(power[r, j], axis=[j]), name="total")
        inverse = te.compute((self.rows,), lambda r: _f(1.0) / total[r], name="inverse")
        out = te.compute(self.out_shape, lambda r, c: power[r, c] * inverse[r], name="out")
        s = schedule.create([x, out])
        for name in ("power", "out"):
            schedule.rows(s, s.get_sblock(name), target.fp32_lanes)
        return schedule.finish(s)

    def cost(self) -> Cost:
        elements = self.rows * self.width
        return Cost(ops=elements * 18, bytes_read=4 * elements, bytes_written=4 * elements)


@dataclass(frozen=True)
class LayerNorm(Kernel):
    """x [rows, width], gain [width], shift [width] -> [rows, width]."""

    kind: ClassVar[str] = "layer_norm"
    rows: int
    width: int
    eps: float

    @property
    def out_shape(self) -> Shape:
        return (self.rows, self.width)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        x = te.placeholder(self.out_shape, "float32", "x")
        gain = te.placeholder((self.width,), "float32", "gain")
        shift = te.placeholder((self.width,), "float32", "shift")
        k, j = (te.reduce_axis((0, self.width), name) for name in "kj")
        per_row, share = (self.rows,), _f(1.0 / self.width)
        total = te.compute(per_row, lambda r: te.sum(x[r, k], axis=[k]), name="total")
        mean = te.compute(per_row, lambda r: total[r] * share, name="mean")
        centred = te.compute(self.out_shape, lambda r, c: x[r, c] - mean[r], name="centred")
        squares = te.compute(
            per_row, lambda r: te.sum(centred[r, j] * centred[r, j], axis=[j]), name="squares"
        )
        scale = te.compute(
            per_row, lambda r: tirx.rsqrt(squares[r] * share + _f(self.eps)), name="scale"
        )

        out = te.compute(
            self.out_shape,
            lambda r, c: centred[r, c] * scale[r] * gain[c] + shift[c],
            name="out",
        )
        s = schedule.create([x, gain, shift, out])
        for name in ("centred", "out"):
            schedule.rows(s, s.get_sblock(name), target.fp32_lanes)
        return schedule.finish(s)

    def cost(self) -> Cost:
        elements = self.rows * self.width
        return Cost(
            ops=6 * elements,
            bytes_read=4 * elements,
            bytes_written=4 * elements,
            weight_bytes=8 * self.width,
        )
