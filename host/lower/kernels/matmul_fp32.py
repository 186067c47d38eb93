"""float32 product of two activations, batched: attention's scores and its weighted values.

Both are read where they lie. Where columns of b are not neighbours, or no whole vectors, b is first
copied into panels [blocks, K, tile], by the side that it is stored along.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit, pointwise, product_fp32, schedule
from host.lower.kernels.dense_fp32 import unravel
from host.lower.kernels.kernel import Accessor, Cost, Kernel
from host.lower.kernels.product_fp32 import Block
from host.lower.kernels.register_tile import RegisterTile
from host.lower.program import Shape, Step
from host.lower.targets import Target
from host.lower.views import physical

# Panels are filled by squares of so many rows and columns, turned around in registers.
SQUARE = 4


@dataclass(frozen=True, slots=True)
class Strided:
    """An operand as a view into a flat buffer of `elements`: `offset`, and a stride per axis."""

    elements: int
    offset: int
    strides: tuple[int, ...]

    def at(self, *index: Any) -> Any:
        """Return the position of an element."""
        position: Any = self.offset
        for i, stride in zip(index, self.strides, strict=True):
            position = position + i * stride
        return position


@dataclass(frozen=True)
class MatmulFp32(Kernel):
    """a [..., M, K] times b [..., K, N] -> [..., M, N], stored in `order`."""

    kind: ClassVar[str] = "matmul_fp32"
    shape: Shape
    inner: int
    a: Strided
    b: Strided
    tile: int
    pixels: int
    order: tuple[int, ...]
    operands: tuple[Accessor, ...] = ()
    post: tuple[Step, ...] = ()

    @property
    def out_shape(self) -> Shape:
        return physical(self.shape, self.order)

    @property
    def batch(self) -> int:
        """Products."""
        return math.prod(self.shape[:-2])

    @property
    def blocks(self) -> int:
        """Tiles of columns, the last one padded."""
        return math.ceil(self.shape[-1] / self.tile)

    @property
    def in_place(self) -> bool:
        """Whether b is read where it lies."""
        return self.b.strides[-1] == 1 and self.shape[-1] % self.tile == 0

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        block = Block.of(RegisterTile(self.pixels, self.tile), target)
        rows = self.shape[-2]
        groups = math.ceil(rows / self.pixels)
        loop = schedule.loop(self.cost().macs)

        def body(a: Any, b: Any, *rest: Any) -> None:
            panels = None if self.in_place else self._pack(b, loop)
            with loop(0, self.batch * self.blocks * groups) as job:
                group, number = job % groups, job // groups % self.blocks
                first = T.bind(tirx.min(group * self.pixels, rows - self.pixels))
                at = (job // (groups * self.blocks), number, first)
                with T.sblock("tile"):
                    T.reads()
                    T.writes()
                    sums = self._multiply(block, (a, b, panels), at)
                    write = partial(self._write, block, sums, rest, at)
                    tail = self.shape[-1] % self.tile
                    product_fp32.whole_or_rest(number, self.blocks, tail, write)

        shapes: dict[str, Shape] = {"a": (self.a.elements,), "b": (self.b.elements,)}
        shapes |= {f"r{i}": o.shape for i, o in enumerate(self.operands)}
        shapes["out"] = self.out_shape
        return emit.function([(name, shape, "float32") for name, shape in shapes.items()], body)

    def _lead(self, product: Any) -> list[Any]:
        return unravel(product, self.shape[:-2])

    def _multiply(
        self, block: Block, operands: tuple[Any, Any, Any], at: tuple[Any, Any, Any]
    ) -> Any:
        (a, b, panels), (product, number, first) = operands, at

        def right(k: Any, vector: int) -> Any:
            column = vector * block.lanes
            if panels is not None:
                return panels.vload([product, number, k, column], block.dtype)
            start = self.b.at(*self._lead(product), k, number * self.tile + column)
            return b.vload([start], block.dtype)

        def left(row: int, k: Any) -> Any:
            return a[self.a.at(*self._lead(product), first + row, k)]

        return product_fp32.multiply(block, self.inner, left, right)

    def _write(
        self,
        block: Block,
        sums: Any,
        buffers: tuple[Any, ...],
        at: tuple[Any, Any, Any],
        rest: bool,
    ) -> None:
        *operands, out = buffers
        product, number, first = at

        def element(row: Any, column: Any) -> None:
            index = [*self._lead(product), first + row, number * self.tile + column]
            value = pointwise.apply(
                sums[row * self.tile + column],
                self.post,
                lambda k: self.operands[k].read(operands[k], index),
            )
            T.buffer_store(out, value, [index[axis] for axis in self.order])

        columns = self.shape[-1] % self.tile if rest else self.tile
        product_fp32.each_row(block, columns, element)

    def _pack(self, b: Any, loop: Any) -> Any:
        """Emit the copy of b into panels, and return them; columns beyond the last are zeros."""
        columns = self.shape[-1]
        panels = T.sblock_alloc_buffer((self.batch, self.blocks, self.inner, self.tile), "float32")
        turns = self.inner >= SQUARE and 1 in self.b.strides[-2:]
        whole = columns // SQUARE if turns else 0
        if whole:
            steps = math.ceil(self.inner / SQUARE)
            with loop(0, self.batch * whole) as job, T.serial(0, steps) as step:
                k = T.bind(tirx.min(step * SQUARE, self.inner - SQUARE))
                self._square(b, panels, (job // whole, k, job % whole * SQUARE))
        with T.serial(0, self.batch) as product, T.serial(0, self.inner) as k:
            for column in range(whole * SQUARE, self.blocks * self.tile):
                value: Any = tirx.const(0.0, "float32")
                if column < columns:
                    value = b[self.b.at(*self._lead(product), k, column)]
                T.buffer_store(panels, value, [product, *self._place(k, column)])
        return panels

    def _place(self, k: Any, column: Any) -> list[Any]:
        """Return where an element of b is in its panels."""
        return [column // self.tile, k, column % self.tile]

    def _square(self, b: Any, panels: Any, at: tuple[Any, Any, Any]) -> None:
        """Emit the copy of a square: its rows or columns are loaded, its rows stored."""
        product, k, n = at
        along_rows = self.b.strides[-1] == 1
        loaded = []
        for i in range(SQUARE):
            start = (k + i, n) if along_rows else (k, n + i)
            place = self.b.at(*self._lead(product), *start)
            loaded.append(T.bind(b.vload([place], f"float32x{SQUARE}")))
        for i, row in enumerate(loaded if along_rows else _turned(loaded)):
            block, line, column = self._place(k + i, n)
            T.buffer_store(panels, row, [product, block, line, tirx.Ramp(column, 1, SQUARE)])

    def cost(self) -> Cost:
        *_, rows, columns = self.shape
        rows_run = math.ceil(rows / self.pixels) * self.pixels
        elements = math.prod(self.shape)
        read = self.batch * self.inner * (rows + columns) + sum(o.elements for o in self.operands)
        return Cost(
            macs=self.batch * rows_run * self.blocks * self.tile * self.inner,
            ops=elements * pointwise.ops(self.post),
            bytes_read=4 * read,
            bytes_written=4 * elements,
        )


def _turned(columns: list[Any]) -> list[Any]:
    """Return the rows of a square of four columns."""
    a, b, c, d = columns
    low, high = [0, 4, 1, 5], [2, 6, 3, 7]
    pairs = [T.bind(tirx.Shuffle(ends, half)) for ends in ([a, c], [b, d]) for half in (low, high)]
    first, second = (pairs[0], pairs[2]), (pairs[1], pairs[3])
    return [tirx.Shuffle(list(ends), half) for ends in (first, second) for half in (low, high)]
