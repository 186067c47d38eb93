"""float32 product of two activations, batched: attention's scores and its weighted values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import te, tirx

from host.lower.kernels import pointwise, schedule
from host.lower.kernels.dense_fp32 import unravel
from host.lower.kernels.kernel import Accessor, Cost, Kernel
from host.lower.program import Shape, Step
from host.lower.targets import Target


@dataclass(frozen=True)
class MatmulFp32(Kernel):
    """a [..., M, K] times b [..., K, N] (or [..., N, K] when `transpose_b`) -> [..., M, N]."""

    kind: ClassVar[str] = "matmul_fp32"
    shape: Shape
    inner: int
    a: Accessor
    b: Accessor
    transpose_b: bool
    tile: int
    pixels: int
    operands: tuple[Accessor, ...] = ()
    post: tuple[Step, ...] = ()

    @property
    def out_shape(self) -> Shape:
        return self.shape

    @property
    def batch(self) -> int:
        return math.prod(self.shape[:-2])

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        *lead, rows, columns = self.shape
        blocks = math.ceil(columns / self.tile)
        a, b = self.a.placeholder("a"), self.b.placeholder("b")
        extra = [o.placeholder(f"r{i}") for i, o in enumerate(self.operands)]

        def right(g: Any, block: Any, k: Any, lane: Any) -> Any:
            column = block * self.tile + lane
            index = [*unravel(g, tuple(lead)), *((column, k) if self.transpose_b else (k, column))]
            value = self.b.read(b, index)
            if columns % self.tile == 0:
                return value
            return tirx.if_then_else(column < columns, value, tirx.const(0.0, "float32"))

        left = te.compute(
            (self.batch, rows, self.inner),
            lambda g, m, k: self.a.read(a, [*unravel(g, tuple(lead)), m, k]),
            name="left",
        )
        packed = te.compute((self.batch, blocks, self.inner, self.tile), right, name="right")
        k = te.reduce_axis((0, self.inner), "k")
        product = te.compute(
            (self.batch, blocks, rows, self.tile),
            lambda g, o, m, i: te.sum(left[g, m, k] * packed[g, o, k, i], axis=[k]),
            name="product",
        )

        def element(*index: Any) -> Any:
            flat: Any = 0
            for extent, i in zip(lead, index[:-2], strict=True):
                flat = flat * extent + i
            m, n = index[-2:]
            value = product[flat, n // self.tile, m, n % self.tile]
            return pointwise.apply(
                value, self.post, lambda j: self.operands[j].read(extra[j], list(index))
            )

        out = te.compute(self.shape, element, name="out")
        s = schedule.create([a, b, *extra, out])
        self._schedule(s, target)
        return schedule.finish(s)

    def _schedule(self, s: Any, target: Target) -> None:
        for name in ("left", "right"):
            schedule.rows(s, s.get_sblock(name), target.fp32_lanes)
        core, out = s.get_sblock("product"), s.get_sblock("out")
        *lead, m, n = s.get_loops(out)
        outer, inner = s.split(n, [None, self.tile])
        rows, row = s.split(m, [None, self.pixels])
        s.reorder(*lead, outer, rows, row, inner)
        s.parallel(s.fuse(*lead, outer))
        s.compute_at(core, rows, preserve_unit_loops=True)
        *_, pixel, lane, k = s.get_loops(core)
        s.reorder(k, pixel, lane)
        s.unroll(pixel)
        s.vectorize(lane)
        s.set_scope(core, 0, "local")
        init = s.decompose_reduction(core, k)
        *_, pixel, lane = s.get_loops(init)
        s.unroll(pixel)
        s.vectorize(lane)
        s.unroll(row)
        s.vectorize(inner)

    def cost(self) -> Cost:
        *_, rows, columns = self.shape
        width = math.ceil(columns / self.tile) * self.tile
        elements = math.prod(self.shape)
        return Cost(
            macs=self.batch * rows * width * self.inner,
            ops=elements * pointwise.ops(self.post),
            bytes_read=4 * (self.a.elements + self.b.elements),
            bytes_written=4 * elements,
        )
