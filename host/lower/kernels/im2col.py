"""Integer codes of a picture as the rows of a matrix: bytes for int8, bit planes for bit-serial."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import te, tirx

from host.lower.kernels import schedule
from host.lower.kernels.conv_fp32 import ConvShape
from host.lower.kernels.kernel import Cost, Kernel
from host.lower.program import Shape
from host.lower.targets import Target


def round_up(value: int, multiple: int) -> int:
    """Return the next multiple."""
    return math.ceil(value / multiple) * multiple


@dataclass(frozen=True)
class Im2col(Kernel):
    """codes [1, H + 2P, W + 2P, C] -> [rows, K], zero beyond the pixels and taps x channels."""

    kind: ClassVar[str] = "im2col"
    dtype: ClassVar[str] = "int8"
    conv: ConvShape
    row_tile: int
    k_tile: int

    @property
    def rows(self) -> int:
        return self.conv.out_height * self.conv.out_width

    @property
    def depth(self) -> int:
        return self.conv.taps * self.conv.in_channels

    @property
    def out_shape(self) -> Shape:
        return (round_up(self.rows, self.row_tile), round_up(self.depth, self.k_tile))

    @property
    def is_identity(self) -> bool:
        """Whether the matrix is the picture itself."""
        c = self.conv
        plain = c.taps == 1 and c.stride == (1, 1) and c.padding == (0, 0)
        return plain and self.out_shape == (self.rows, self.depth)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        c = self.conv
        q = te.placeholder(_padded_shape(c), "int8", "q")

        def element(m: Any, k: Any) -> Any:
            row, column = m // c.out_width, m % c.out_width
            tap, channel = k // c.in_channels, k % c.in_channels
            value = q[
                0,
                row * c.stride[0] + tap // c.kernel[1],
                column * c.stride[1] + tap % c.kernel[1],
                channel,
            ]
            for inside in _bounds(m, self.rows, self.out_shape[0]) + _bounds(
                k, self.depth, self.out_shape[1]
            ):
                value = tirx.if_then_else(inside, value, tirx.const(0, "int8"))
            return value

        out = te.compute(self.out_shape, element, name="out")
        s = schedule.create([q, out])
        block = s.get_sblock("out")
        m, k = s.get_loops(block)
        if self.out_shape[1] == self.depth:
            _, channel = s.split(k, [None, c.in_channels])
            chunk = next((n for n in (32, 16, 8, 4) if c.in_channels % n == 0), 1)
            s.vectorize(s.split(channel, [None, chunk])[1])
        s.parallel(m)
        return schedule.finish(s)

    def cost(self) -> Cost:
        elements = math.prod(self.out_shape)
        return Cost(
            ops=elements, bytes_read=math.prod(_padded_shape(self.conv)), bytes_written=elements
        )


@dataclass(frozen=True)
class BitPack(Kernel):
    """codes [1, H + 2P, W + 2P, C] -> [rows, bits, K bytes]: eight channels of a plane a byte."""

    kind: ClassVar[str] = "bit_pack"
    dtype: ClassVar[str] = "uint8"
    conv: ConvShape
    bits: int
    row_tile: int
    k_bytes: int

    @property
    def rows(self) -> int:
        return self.conv.out_height * self.conv.out_width

    @property
    def channel_bytes(self) -> int:
        return math.ceil(self.conv.in_channels / 8)

    @property
    def depth(self) -> int:
        return self.conv.taps * self.channel_bytes

    @property
    def out_shape(self) -> Shape:
        rows = round_up(self.rows, self.row_tile)
        return (rows, self.bits, round_up(self.depth, self.k_bytes))

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        c = self.conv
        height, width = _padded_shape(c)[1:3]
        q = te.placeholder(_padded_shape(c), "uint8", "q")

        def byte(h: Any, v: Any, plane: Any, group: Any) -> Any:
            value = tirx.const(0, "uint8")
            for bit in range(8):
                channel = group * 8 + bit
                one = (
                    q[0, h, v, tirx.min(channel, c.in_channels - 1)] >> plane.astype("uint8")
                ) & 1
                if c.in_channels % 8:
                    one = tirx.if_then_else(channel < c.in_channels, one, tirx.const(0, "uint8"))
                value = value | (one << bit)
            return value

        planes = te.compute((height, width, self.bits, self.channel_bytes), byte, name="planes")

        def element(m: Any, plane: Any, k: Any) -> Any:
            row, column = m // c.out_width, m % c.out_width
            tap, group = k // self.channel_bytes, k % self.channel_bytes
            value = planes[
                row * c.stride[0] + tap // c.kernel[1],
                column * c.stride[1] + tap % c.kernel[1],
                plane,
                group,
            ]
            for inside in _bounds(m, self.rows, self.out_shape[0]) + _bounds(
                k, self.depth, self.out_shape[2]
            ):
                value = tirx.if_then_else(inside, value, tirx.const(0, "uint8"))
            return value

        out = te.compute(self.out_shape, element, name="out")
        s = schedule.create([q, out])
        h, *_ = s.get_loops(s.get_sblock("planes"))
        s.parallel(h)
        m, *_ = s.get_loops(s.get_sblock("out"))
        s.parallel(m)
        return schedule.finish(s)

    def cost(self) -> Cost:
        codes = math.prod(_padded_shape(self.conv))
        packed = math.prod(self.out_shape)
        return Cost(ops=codes * self.bits + packed, bytes_read=codes, bytes_written=packed)


def _padded_shape(c: ConvShape) -> Shape:
    return (1, c.height + 2 * c.padding[0], c.width + 2 * c.padding[1], c.in_channels)


def _bounds(index: Any, extent: int, full: int) -> list[Any]:
    return [] if extent == full else [index < extent]
