"""float32 linear layers: tokens times packed weights in register tiles, a lone token by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit, pointwise, product_fp32, schedule
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.kernel import Accessor, Cost, Kernel
from host.lower.kernels.product_fp32 import Block
from host.lower.kernels.register_tile import RegisterTile, covering_tile
from host.lower.program import Shape, Step
from host.lower.targets import Target

# Vectors of channels that a lone token fills: enough to hide latency, its own load shared by many.
ROW_VECTORS = (8, 12)


def dense_shape(tokens: int, in_features: int, out_features: int) -> ConvShape:
    """Return a linear layer over `tokens` rows as a 1x1 convolution of a 1 x tokens picture."""
    return ConvShape(1, tokens, in_features, out_features, (1, 1), (1, 1), (0, 0))


def dense_tile(tokens: int, channels: int, target: Target) -> RegisterTile:
    """Return the register tile of a linear layer."""
    if tokens > 1:
        return covering_tile(tokens, channels, target)
    vectors = math.ceil(channels / target.fp32_lanes)
    few, many = ROW_VECTORS
    widths = range(min(few, vectors), min(many, vectors) + 1)
    best = min(widths, key=lambda width: (math.ceil(vectors / width) * width, -width))
    return RegisterTile(1, best * target.fp32_lanes)


def unravel(flat: Any, shape: Shape) -> list[Any]:
    """Return the index of a flat position."""
    index = []
    for axis, extent in enumerate(shape):
        below, above = math.prod(shape[axis + 1 :]), math.prod(shape[:axis])
        outer = flat if below == 1 else flat // below
        index.append(0 if extent == 1 else outer if above == 1 else outer % extent)
    return index


@dataclass(frozen=True)
class DenseFp32(Kernel):
    """x [1, 1, tokens, I], w [O / tile, 1, 1, I, tile], bias [O], operands -> [1, 1, tokens, O].

    `lead` is the logical shape of the tokens, which the operands of the epilogue are indexed by.
    Tokens beyond the last whole tile of `pixels` are covered by one that overlaps that before.
    """

    kind: ClassVar[str] = "dense_fp32"
    conv: ConvShape
    tile: int
    pixels: int
    operands: tuple[Accessor, ...] = ()
    post: tuple[Step, ...] = ()
    lead: Shape = ()

    @property
    def out_shape(self) -> Shape:
        return self.conv.out_shape

    @property
    def blocks(self) -> int:
        """Tiles of output channels, the last one padded."""
        return math.ceil(self.conv.out_channels / self.tile)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        c = self.conv
        block = Block.of(RegisterTile(self.pixels, self.tile), target)
        groups = math.ceil(c.width / self.pixels)
        loop = schedule.loop(self.cost().macs)

        def body(x: Any, w: Any, bias: Any, *rest: Any) -> None:
            with loop(0, self.blocks * groups) as job:
                number, group = job // groups, job % groups
                first = T.bind(tirx.min(group * self.pixels, c.width - self.pixels))
                with T.sblock("tile"):
                    T.reads()
                    T.writes()
                    sums = self._multiply(block, (x, w), (number, first), target)
                    write = partial(self._write, block, sums, (bias, *rest), (number, first))
                    tail = c.out_channels % self.tile
                    product_fp32.whole_or_rest(number, self.blocks, tail, write)

        x = ("x", (1, 1, c.width, c.in_channels), "float32")
        w = ("w", (self.blocks, 1, 1, c.in_channels, self.tile), "float32")
        bias = ("bias", (c.out_channels,), "float32")
        operands = [(f"r{i}", a.shape, "float32") for i, a in enumerate(self.operands)]
        return emit.function([x, w, bias, *operands, ("out", self.out_shape, "float32")], body)

    def _multiply(
        self, block: Block, operands: tuple[Any, Any], at: tuple[Any, Any], target: Target
    ) -> Any:
        (x, w), (number, first) = operands, at
        depth = self.conv.in_channels

        def right(k: Any, vector: int) -> Any:
            return w.vload([number, 0, 0, k, vector * block.lanes], block.dtype)

        if self.conv.width == 1:
            row = T.decl_buffer((depth,), "float32", data=x.data)
            return product_fp32.multiply_row(block, depth, row, right, target)
        return product_fp32.multiply(block, depth, lambda i, k: x[0, 0, first + i, k], right)

    def _write(
        self, block: Block, sums: Any, buffers: tuple[Any, ...], at: tuple[Any, Any], rest: bool
    ) -> None:
        """Emit the epilogue of a tile: bias, then pointwise steps."""
        bias, *operands, out = buffers
        number, first = at

        def element(row: Any, column: Any) -> None:
            token, channel = first + row, number * self.tile + column
            index = [*unravel(token, self.lead), channel]
            value = pointwise.apply(
                sums[row * self.tile + column] + bias[channel],
                self.post,
                lambda k: self.operands[k].read(operands[k], index),
            )
            T.buffer_store(out, value, [0, 0, token, channel])

        columns = self.conv.out_channels % self.tile if rest else self.tile
        product_fp32.each_row(block, columns, element)

    def cost(self) -> Cost:
        c = self.conv
        weights = self.blocks * self.tile * c.in_channels
        rows = math.ceil(c.width / self.pixels) * self.pixels
        extra = sum(a.elements for a in self.operands)
        return Cost(
            macs=rows * weights,
            ops=c.width * c.out_channels * pointwise.ops(self.post),
            bytes_read=4 * (c.width * c.in_channels + extra),
            bytes_written=4 * c.width * c.out_channels,
            weight_bytes=4 * (weights + c.out_channels),
        )
