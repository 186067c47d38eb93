"""float32 3x3 convolution by Winograd's minimal filtering F(m x m, 3 x 3): fewer products.

A square of t = m + 2 inputs gives m x m outputs by t * t products instead of 9 * m * m (Lavin and
Gray, arXiv 1509.09308):

1. inputs:   V = B' d B for every square and channel;
2. products: M = V U for each of the t * t points, channels against channels;
3. outputs:  y = A' M A, then bias and pointwise steps.

The weights U = G w G' are made when a program is loaded (device_agent.weights), so that they travel
as the nine that they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit, pointwise, product_fp32, schedule
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.float_conv import FloatConv
from host.lower.kernels.kernel import Accessor, Cost
from host.lower.kernels.product_fp32 import Block
from host.lower.kernels.register_tile import RegisterTile
from host.lower.kernels.winograd_transform import (
    POINTS,
    TAPS,
    combine,
    fold,
    input_matrix,
    output_matrix,
)
from host.lower.program import Step
from host.lower.targets import Target

# Element operations of a point in a transform, both passes: what `Cost` counts.
TRANSFORM_OPS = 6
LINE_ELEMENTS = 16  # of a cache line
# What transforms must save before they are taken.
MARGIN = 0.9
# Squares that share a panel of weights while it is near: so many register tiles.
CHUNK_TILES = 2


@dataclass(frozen=True)
class WinogradFp32(FloatConv):
    """x [1, H, W, I], w [O / tile, t * t, I, tile], bias [O], operands -> [1, OH, OW, O].

    `outputs` is m, `squares` x `tile` sums stay in registers.
    """

    kind: ClassVar[str] = "winograd_fp32"
    conv: ConvShape
    outputs: int
    tile: int
    squares: int
    operands: tuple[Accessor, ...] = ()
    post: tuple[Step, ...] = ()

    @property
    def side(self) -> int:
        """Inputs along a side of a square: t."""
        return self.outputs + TAPS - 1

    @property
    def points(self) -> int:
        """Products of a square and a pair of channels."""
        return self.side**2

    @property
    def across(self) -> int:
        """Squares of a row."""
        return math.ceil(self.conv.out_width / self.outputs)

    @property
    def count(self) -> int:
        """Squares."""
        return squares_of(self.conv, self.outputs)

    @property
    def blocks(self) -> int:
        """Tiles of output channels, the last one padded."""
        return math.ceil(self.conv.out_channels / self.tile)

    @property
    def chunk(self) -> int:
        """Squares that one job multiplies and writes; the last job overlaps the one before."""
        return self.squares * min(CHUNK_TILES, self.count // self.squares)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        c = self.conv
        chunks = math.ceil(self.count / self.chunk)
        block = Block.of(RegisterTile(self.squares, self.tile), target)
        loop = schedule.loop(self.cost().macs)

        def body(x: Any, w: Any, bias: Any, *rest: Any) -> None:
            v = T.sblock_alloc_buffer((self.points, _pitch(self.count * c.in_channels)), "float32")
            with loop(0, self.count) as square, T.sblock("inputs"):
                _opaque()
                self._transform_inputs(x, v, square, target)
            with loop(0, self.blocks * chunks) as job, T.sblock("chunk"):
                _opaque()
                number, first = job // chunks, job % chunks * self.chunk
                first = T.bind(tirx.min(first, self.count - self.chunk))
                m = T.sblock_alloc_buffer((self.points, _pitch(self.chunk * self.tile)), "float32")
                self._multiply(block, (v, w, m), (number, first))
                write = partial(self._write, block, m, (bias, *rest), (number, first))
                tail = c.out_channels % self.tile
                product_fp32.whole_or_rest(number, self.blocks, tail, write)

        shapes = [
            ("x", (1, c.height, c.width, c.in_channels), "float32"),
            ("w", (self.blocks, self.points, c.in_channels, self.tile), "float32"),
        ]
        return emit.function([*shapes, *self.epilogue.parameters(self.out_shape)], body)

    def _transform_inputs(self, x: Any, v: Any, square: Any, target: Target) -> None:
        """Emit V of one square; one that reaches over the border is copied out first."""
        c, side = self.conv, self.side
        top = T.bind(square // self.across * self.outputs - c.padding[0])
        left = T.bind(square % self.across * self.outputs - c.padding[1])
        inside = tirx.all(top >= 0, left >= 0, top <= c.height - side, left <= c.width - side)

        def transform(read: Callable[[Any, Any, Any, int], Any]) -> None:
            emit.vectors(
                c.in_channels,
                target.fp32_lanes,
                lambda at, lanes: self._input_vectors(
                    lambda i, j: read(i, j, at, lanes), v, (square, at, lanes)
                ),
            )

        with T.If(inside):
            with T.Then():
                transform(lambda i, j, at, n: _load(x, [0, top + i, left + j, at], n))
            with T.Else(), T.sblock("border"):
                _opaque()
                patch = T.sblock_alloc_buffer((side, side, c.in_channels), "float32")
                with T.serial(0, side) as i, T.serial(0, side) as j:
                    row, column = T.bind(top + i), T.bind(left + j)
                    exists = tirx.all(row >= 0, row < c.height, column >= 0, column < c.width)
                    emit.vectors(
                        c.in_channels,
                        target.fp32_lanes,
                        partial(_copy_or_clear, exists, x, (0, row, column), patch, (i, j)),
                    )
                transform(lambda i, j, at, n: _load(patch, [i, j, at], n))

    def _input_vectors(
        self, read: Callable[[int, int], Any], v: Any, at: tuple[Any, Any, int]
    ) -> None:
        """Emit both passes for one vector of channels; the first leaves its result in V."""
        square, channel, lanes = at
        matrix, side = input_matrix(self.outputs), self.side

        def point(i: int, j: int) -> list[Any]:
            return [i * side + j, square * self.conv.in_channels + channel]

        # Rolled: unrolled, all points would have to be in registers at once.
        with T.serial(0, emit.hidden(side)) as j:
            for i, value in enumerate(combine(matrix, [read(i, j) for i in range(side)])):
                _store(v, point(i, j), value, lanes)
        with T.serial(0, emit.hidden(side)) as i:
            row = [_load(v, point(i, j), lanes) for j in range(side)]
            for j, value in enumerate(combine(matrix, row)):
                _store(v, point(i, j), value, lanes)

    def _multiply(self, block: Block, buffers: tuple[Any, Any, Any], at: tuple[Any, Any]) -> None:
        (v, w, m), (number, first) = buffers, at
        with T.serial(0, self.points) as point, T.serial(0, self.chunk // self.squares) as part:
            start = part * self.squares

            def right(k: Any, vector: int) -> Any:
                return w.vload([number, point, k, vector * block.lanes], block.dtype)

            with T.sblock("tile"):
                _opaque()
                acc = product_fp32.accumulate(
                    block,
                    self.conv.in_channels,
                    lambda i, k: v[point, (first + start + i) * self.conv.in_channels + k],
                    right,
                )
                for i in range(block.rows):
                    for j in range(block.vectors):
                        place = [point, (start + i) * self.tile + j * block.lanes]
                        _store(m, place, acc[i * block.vectors + j], block.lanes)

    def _write(
        self, block: Block, m: Any, buffers: tuple[Any, ...], at: tuple[Any, Any], rest: bool
    ) -> None:
        """Emit the outputs of a chunk for a block of channels."""
        channels = self.conv.out_channels % self.tile if rest else self.tile
        with T.serial(0, self.chunk) as square:
            for start in range(0, channels, block.lanes):
                lanes = min(block.lanes, channels - start)
                self._output_vectors(m, buffers, (*at, square), (start, lanes))

    def _output_vectors(
        self, m: Any, buffers: tuple[Any, ...], at: tuple[Any, Any, Any], run: tuple[int, int]
    ) -> None:
        """Emit both passes for one vector of channels; the first leaves its result in M."""
        (number, first, square), (start, lanes) = at, run
        matrix, side = output_matrix(self.outputs), self.side
        place = T.bind(square * self.tile + start)
        top = T.bind((first + square) // self.across * self.outputs)
        left = T.bind((first + square) % self.across * self.outputs)
        with T.serial(0, emit.hidden(side)) as j:
            column = [_load(m, [i * side + j, place], lanes) for i in range(side)]
            for i, value in enumerate(fold(matrix, column)):
                _store(m, [i * side + j, place], value, lanes)
        with T.serial(0, emit.hidden(self.outputs)) as i, T.sblock("row"):
            _opaque()
            row = [_load(m, [i * side + j, place], lanes) for j in range(side)]
            values = emit.registers(self.outputs * lanes, "float32")
            for j, value in enumerate(fold(matrix, row)):
                _store(values, [j * lanes], value, lanes)
            channel = number * self.tile + start
            for j in range(self.outputs):
                with self._exists(top + i, left + j):
                    pixel = (top + i, left + j, channel)
                    self.epilogue.store(values, j * lanes, buffers, pixel, lanes)

    def _exists(self, row: Any, column: Any) -> Any:
        """Return a context in which an output is emitted: where squares may stick out, a branch."""
        c = self.conv
        conditions = []
        if c.out_height % self.outputs:
            conditions.append(row < c.out_height)
        if c.out_width % self.outputs:
            conditions.append(column < c.out_width)
        return _If(conditions)

    def cost(self) -> Cost:
        c = self.conv
        width = self.blocks * self.tile
        outputs = c.out_height * c.out_width * c.out_channels
        transforms = TRANSFORM_OPS * self.points * self.count * (c.in_channels + c.out_channels)
        between = self.points * self.count * (c.in_channels + width)
        weights = self.points * c.in_channels * width
        return Cost(
            macs=self.points * self.count * c.in_channels * width,
            ops=transforms + outputs * pointwise.ops(self.post),
            bytes_read=4 * (c.height * c.width * c.in_channels + between + self.epilogue.elements),
            bytes_written=4 * (outputs + between),
            weight_bytes=4 * (weights + c.out_channels),
        )


def winograd_outputs(conv: ConvShape, target: Target) -> int:
    """Return m of the form that is fastest by a small cost model, 0 where direct products are.

    Products, transforms and, where weights outgrow the cache, their way from memory count.
    """
    if (conv.kernel, conv.stride, conv.groups) != ((TAPS, TAPS), (1, 1), 1):
        return 0
    best = MARGIN * _cycles(conv, target, conv.out_height * conv.out_width, TAPS**2)
    choice = 0
    for outputs in POINTS:
        points = (outputs + TAPS - 1) ** 2
        squares = squares_of(conv, outputs)
        vectors = sum(
            math.ceil(c / target.fp32_lanes) for c in (conv.in_channels, conv.out_channels)
        )
        transforms = TRANSFORM_OPS * points * squares * vectors
        cycles = _cycles(conv, target, squares, points) + transforms
        if cycles < best:
            best, choice = cycles, outputs
    return choice


def squares_of(conv: ConvShape, outputs: int) -> int:
    """Return the squares of outputs that cover a picture."""
    return math.ceil(conv.out_height / outputs) * math.ceil(conv.out_width / outputs)


def _cycles(conv: ConvShape, target: Target, rows: int, products: int) -> float:
    """Return cycles of `products` matrix products of `rows` with all channels."""
    vectors = math.ceil(conv.out_channels / target.fp32_lanes)
    multiply = rows * products * conv.in_channels * vectors / target.fma_per_cycle
    weights = 4 * products * conv.in_channels * conv.out_channels
    stream = weights / target.stream_bytes_per_cycle if weights > target.l2_bytes else 0.0
    return max(multiply, stream)


class _If:
    """`with T.If(...), T.Then()` over conditions, nothing where there are none."""

    def __init__(self, conditions: Sequence[Any]) -> None:
        self._frames = (
            [T.If(tirx.all(*conditions) if len(conditions) > 1 else conditions[0]), T.Then()]
            if conditions
            else []
        )

    def __enter__(self) -> None:
        for frame in self._frames:
            frame.__enter__()

    def __exit__(self, *error: Any) -> None:
        for frame in reversed(self._frames):
            frame.__exit__(*error)


def _pitch(elements: int) -> int:
    """Return how far apart points lie: an odd number of lines, so that all of them fit a cache."""
    lines = math.ceil(elements / LINE_ELEMENTS)
    return (lines | 1) * LINE_ELEMENTS


def _opaque() -> None:
    T.reads()
    T.writes()


def _load(buffer: Any, index: list[Any], lanes: int) -> Any:
    return T.bind(buffer.vload(index, emit.vector("float32", lanes)))


def _store(buffer: Any, index: list[Any], value: Any, lanes: int) -> None:
    *outer, last = index
    T.buffer_store(buffer, value, [*outer, emit.run(last, lanes)])


def _copy_or_clear(
    exists: Any,
    source: Any,
    source_at: tuple[Any, ...],
    target: Any,
    target_at: tuple[Any, ...],
    at: Any,
    lanes: int,
) -> None:
    zeros = emit.spread(tirx.const(0.0, "float32"), lanes)
    with T.If(exists):
        with T.Then():
            _store(target, [*target_at, at], _load(source, [*source_at, at], lanes), lanes)
        with T.Else():
            _store(target, [*target_at, at], zeros, lanes)
