"""float32 depthwise convolution: every channel by itself, vectors along the channels.

Nothing is padded: lines of the kernel beyond the picture are left out of the loop, and the pixels
at both ends of a line are emitted apart, without the taps that fall outside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit, pointwise, schedule
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.float_conv import FloatConv
from host.lower.kernels.kernel import Accessor, Cost
from host.lower.program import Step
from host.lower.targets import Target

# Sums that stay in registers beside their inputs and weights; the pixels of strided layers share
# no inputs, and need an address each.
PIXELS, STRIDED_PIXELS = 8, 6


@dataclass(frozen=True)
class DepthwiseFp32(FloatConv):
    """x [1, H, W, C], w [KH, KW, 1, C], bias [C], operands -> [1, OH, OW, C]."""

    kind: ClassVar[str] = "depthwise_fp32"
    conv: ConvShape
    operands: tuple[Accessor, ...] = ()
    post: tuple[Step, ...] = ()

    @property
    def pixels(self) -> int:
        """Neighbouring outputs that share inputs and weights."""
        widest = PIXELS if self.conv.stride[1] == 1 else STRIDED_PIXELS
        tiles = math.ceil(self.conv.out_width / widest)
        return math.ceil(self.conv.out_width / tiles)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        c = self.conv
        loop = schedule.loop(self.cost().macs)

        def body(*buffers: Any) -> None:
            with loop(0, c.out_height) as line:

                def channels(start: Any, lanes: int) -> None:
                    self._line(buffers, line, (start, lanes))

                emit.vectors(c.out_channels, target.fp32_lanes, channels)

        shapes = [
            ("x", (1, c.height, c.width, c.in_channels), "float32"),
            ("w", (*c.kernel, 1, c.out_channels), "float32"),
        ]
        return emit.function([*shapes, *self.epilogue.parameters(self.out_shape)], body)

    def _line(self, buffers: tuple[Any, ...], line: Any, run: tuple[Any, int]) -> None:
        """Emit a line of outputs: the tiles that reach over an end by themselves, a loop of others.

        The last tile overlaps the one before.
        """
        c, width = self.conv, self.pixels
        starts = [min(v, c.out_width - width) for v in range(0, c.out_width, width)]
        inner = [v for v in starts if v % width == 0 and self._inside(v)]
        for start in starts:
            if start not in inner:
                self._tile(buffers, (line, start), run)
        if inner:
            with T.serial(0, len(inner)) as part:
                self._tile(buffers, (line, T.bind(inner[0] + part * width)), run, inside=True)

    def _inside(self, start: int) -> bool:
        """Whether no tap of a tile falls beyond an end of the line."""
        c = self.conv
        first = start * c.stride[1] - c.padding[1]
        last = (start + self.pixels - 1) * c.stride[1] - c.padding[1] + c.kernel[1] - 1
        return first >= 0 and last < c.width

    def _tile(
        self,
        buffers: tuple[Any, ...],
        at: tuple[Any, Any],
        run: tuple[Any, int],
        *,
        inside: bool = False,
    ) -> None:
        c = self.conv
        (x, w, *rest), (line, start), (channel, lanes) = buffers, at, run
        dtype = emit.vector("float32", lanes)
        with T.sblock("tile"):
            T.reads()
            T.writes()
            top = T.bind(line * c.stride[0] - c.padding[0])
            acc = emit.registers(self.pixels, dtype)
            emit.clear(acc, tirx.const(0.0, "float32"), lanes)
            low = T.bind(tirx.max(0 - top, 0))
            count = T.bind(tirx.min(c.kernel[0], c.height - top) - low)
            with T.serial(0, emit.hidden(count)) as step:
                tap = low + step
                for kw in range(c.kernel[1]):
                    weight = T.bind(w.vload([tap, kw, 0, channel], dtype))
                    for i in range(self.pixels):
                        column = (start + i) * c.stride[1] - c.padding[1] + kw
                        if inside or 0 <= column < c.width:
                            value = x.vload([0, top + tap, column, channel], dtype)
                            T.buffer_store(acc, acc[i] + value * weight, [i])
            sums = emit.registers(self.pixels * lanes, "float32")
            for i in range(self.pixels):
                T.buffer_store(sums, acc[i], [emit.run(i * lanes, lanes)])
                place = (line, start + i, channel)
                self.epilogue.store(sums, i * lanes, tuple(rest), place, lanes)

    def cost(self) -> Cost:
        c = self.conv
        outputs = math.prod(self.out_shape)
        return Cost(
            macs=outputs * c.taps,
            ops=outputs * pointwise.ops(self.post),
            bytes_read=4 * (c.height * c.width * c.in_channels + self.epilogue.elements),
            bytes_written=4 * outputs,
            weight_bytes=4 * (c.taps + 1) * c.out_channels,
        )
