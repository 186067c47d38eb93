"""float32 convolution: direct, NHWC, pixels and channels in register tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit, pointwise, product_fp32, schedule
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.float_conv import FloatConv, bordered
from host.lower.kernels.kernel import Accessor, Cost
from host.lower.kernels.product_fp32 import Block
from host.lower.kernels.register_tile import RegisterTile, picture_tile
from host.lower.program import Step
from host.lower.targets import Target


@dataclass(frozen=True)
class ConvFp32(FloatConv):
    """x [1, H, W, I], w [O / tile, KH, KW, I, tile], bias [O], operands -> [1, OH, OW, O].

    `lines` x `pixels` x `tile` sums stay in registers; tiles at the end of a picture overlap those
    before. The inputs under a line of the kernel are one run of KW * I neighbours.
    """

    kind: ClassVar[str] = "conv_fp32"
    conv: ConvShape
    tile: int
    pixels: int
    lines: int = 1
    operands: tuple[Accessor, ...] = ()
    post: tuple[Step, ...] = ()

    @staticmethod
    def tiled(conv: ConvShape, target: Target, **fields: Any) -> ConvFp32:
        """Return the kernel with the register tile that suits it."""
        walked = conv.walked
        tile = picture_tile(walked.out_height, walked.out_width, conv.out_channels, target)
        return ConvFp32(conv, tile.channels, tile.columns, tile.lines, **fields)

    @property
    def blocks(self) -> int:
        """Tiles of output channels, the last one padded."""
        return math.ceil(self.conv.out_channels / self.tile)

    @property
    def run(self) -> int:
        """Inputs under a line of the kernel."""
        return self.conv.kernel[1] * self.conv.in_channels

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        c = self.conv.walked
        block = Block.of(RegisterTile(self.lines * self.pixels, self.tile), target)
        rows = math.ceil(c.out_height / self.lines)
        loop = schedule.loop(self.cost().macs)
        # What is walked in the inner loop is read again and again: the smaller of the two.
        inner_blocks = 4 * self.cost().weight_bytes <= target.l2_bytes * 2

        def body(x: Any, w: Any, *rest: Any) -> None:
            x = bordered(c, x, loop, target)
            with loop(0, self.blocks * rows) as job:
                number, group = job // rows, job % rows
                if inner_blocks:
                    number, group = job % self.blocks, job // self.blocks
                line = T.bind(tirx.min(group * self.lines, c.out_height - self.lines))
                with T.serial(0, math.ceil(c.out_width / self.pixels)) as part, T.sblock("tile"):
                    T.reads()
                    T.writes()
                    column = T.bind(tirx.min(part * self.pixels, c.out_width - self.pixels))
                    self._tile(block, (x, w, *rest), (number, line, column))

        shapes = [
            ("x", (1, self.conv.height, self.conv.width, c.in_channels), "float32"),
            ("w", (self.blocks, *c.kernel, c.in_channels, self.tile), "float32"),
        ]
        return emit.function([*shapes, *self.epilogue.parameters(self.out_shape)], body)

    def _tile(self, block: Block, buffers: tuple[Any, ...], at: tuple[Any, Any, Any]) -> None:
        c = self.conv.walked
        (x, w, *rest), (number, line, column) = buffers, at
        pixel = c.bordered[1] * c.in_channels
        first = T.bind(line * c.stride[0] * pixel + column * (c.stride[1] * c.in_channels))
        panel = T.decl_buffer(
            (self.blocks, c.kernel[0], self.run, self.tile), "float32", data=w.data
        )

        def left(row: int, tap: Any, k: Any) -> Any:
            own = row // self.pixels * c.stride[0] * pixel
            own += row % self.pixels * c.stride[1] * c.in_channels
            return x[first + tap * pixel + k + own]

        def right(tap: Any, k: Any, vector: int) -> Any:
            return panel.vload([number, tap, k, vector * block.lanes], block.dtype)

        sums = product_fp32.multiply_lines(block, (c.kernel[0], self.run), left, right)

        def write(last: bool) -> None:
            channels = c.out_channels % self.tile if last else self.tile
            with T.serial(0, self.lines) as i, T.serial(0, self.pixels) as j:
                start = (i * self.pixels + j) * block.columns
                place = self._place(line + i, column + j)
                at = (*place, number * self.tile)
                self.epilogue.store(sums, start, tuple(rest), at, channels)

        product_fp32.whole_or_rest(number, self.blocks, c.out_channels % self.tile, write)

    def _place(self, line: Any, column: Any) -> tuple[Any, Any]:
        """Return a pixel as the picture counts it."""
        if self.conv.walked == self.conv:
            return line, column
        return column // self.conv.width, column % self.conv.width

    def cost(self) -> Cost:
        c = self.conv
        outputs = c.out_height * c.out_width
        weights = self.blocks * self.tile * c.taps * c.in_channels
        return Cost(
            macs=outputs * weights,
            ops=outputs * c.out_channels * pointwise.ops(self.post),
            bytes_read=4 * (c.height * c.width * c.in_channels + self.epilogue.elements),
            bytes_written=4 * outputs * c.out_channels,
            weight_bytes=4 * (weights + c.out_channels),
        )
