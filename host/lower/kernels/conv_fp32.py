"""float32 convolution: direct, NHWC, channels in register tiles; grouped and depthwise too."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import s_tir, te, tirx, topi

from host.lower.kernels import pointwise, schedule
from host.lower.kernels.kernel import Accessor, Cost, Kernel, logical
from host.lower.program import Shape, Step
from host.lower.targets import Target

NHWC = (0, 2, 3, 1)


@dataclass(frozen=True)
class ConvShape:
    """Sizes of a convolution of one sample."""

    height: int
    width: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int = 1

    @property
    def out_height(self) -> int:
        return (self.height + 2 * self.padding[0] - self.kernel[0]) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        return (self.width + 2 * self.padding[1] - self.kernel[1]) // self.stride[1] + 1

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def out_shape(self) -> Shape:
        return (1, self.out_height, self.out_width, self.out_channels)


def padded(x: te.Tensor, padding: tuple[int, int], value: Any = 0.0) -> te.Tensor:
    """Return x [1, H, W, C] with a spatial border."""
    if padding == (0, 0):
        return x
    border = [0, *padding, 0]
    return topi.nn.pad(x, border, border, pad_value=value, name="xpad")


@dataclass(frozen=True)
class FloatConv(Kernel):
    """What float convolutions share: x [1, H, W, I], w, bias [O], operands -> [1, OH, OW, O]."""

    conv: ConvShape

    @property
    def out_shape(self) -> Shape:
        return self.conv.out_shape

    def logical_index(self, stored: Any) -> list[Any]:
        """Return an index of the destination as the operands of the epilogue count it."""
        return logical(stored, NHWC)

    def window(self, per_group: int) -> tuple[te.Tensor, Callable[..., Any], list[Any]]:
        """Return (x, read(h, v, channel), reduction axes): the input under an output pixel."""
        c = self.conv
        x = te.placeholder((1, c.height, c.width, c.in_channels), "float32", "x")
        xp = padded(x, c.padding)
        extents = {"kh": c.kernel[0], "kw": c.kernel[1], "ic": per_group}
        axes = [te.reduce_axis((0, extent), name) for name, extent in extents.items()]

        def read(h: Any, v: Any, channel: Any) -> Any:
            return xp[0, h * c.stride[0] + axes[0], v * c.stride[1] + axes[1], channel]

        return x, read, axes

    def output(
        self, tile: Callable[..., Any], operands: tuple[Accessor, ...], post: tuple[Step, ...]
    ) -> list[te.Tensor]:
        """Return [bias, *operands, out]: `tile(h, v, o)` with its bias and pointwise steps."""
        bias = te.placeholder((self.conv.out_channels,), "float32", "bias")
        extra = [a.placeholder(f"r{i}") for i, a in enumerate(operands)]

        def element(*stored: Any) -> Any:
            index = self.logical_index(stored)
            value = tile(*stored[1:]) + bias[stored[3]]
            return pointwise.apply(value, post, lambda k: operands[k].read(extra[k], index))

        return [bias, *extra, te.compute(self.out_shape, element, name="out")]


@dataclass(frozen=True)
class ConvFp32(FloatConv):
    """Ungrouped: w [O / tile, KH, KW, I, tile]; `pixels` x `tile` sums stay in registers."""

    kind: ClassVar[str] = "conv_fp32"
    tile: int
    pixels: int
    operands: tuple[Accessor, ...] = ()
    post: tuple[Step, ...] = ()

    @property
    def blocks(self) -> int:
        """Tiles of output channels, the last one padded."""
        return math.ceil(self.conv.out_channels / self.tile)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        c = self.conv
        w = te.placeholder((self.blocks, *c.kernel, c.in_channels, self.tile), "float32", "w")
        x, read, axes = self.window(c.in_channels)
        kh, kw, ic = axes
        tile = te.compute(
            (self.blocks, c.out_height, c.out_width, self.tile),
            lambda o, h, v, i: te.sum(read(h, v, ic) * w[o, kh, kw, ic, i], axis=axes),
            name="conv",
        )
        tail = self.output(
            lambda h, v, o: tile[o // self.tile, h, v, o % self.tile], self.operands, self.post
        )
        s = schedule.create([x, w, *tail])
        self._schedule(s, target)
        return schedule.finish(s)

    def _schedule(self, s: s_tir.Schedule, target: Target) -> None:
        conv, out = s.get_sblock("conv"), s.get_sblock("out")
        n, h, v, o = s.get_loops(out)
        outer, inner = s.split(o, [None, self.tile])
        columns, column = s.split(v, [None, self.pixels])
        s.reorder(outer, n, h, columns, column, inner)
        s.parallel(s.fuse(outer, n, h))
        s.compute_at(conv, columns, preserve_unit_loops=True)
        *_, row, pixel, lane, kh, kw, ic = s.get_loops(conv)
        s.reorder(kh, kw, ic, row, pixel, lane)
        s.unroll(pixel)
        s.vectorize(lane)
        s.set_scope(conv, 0, "local")
        init = s.decompose_reduction(conv, kh)
        *_, pixel, lane = s.get_loops(init)
        s.unroll(pixel)
        s.vectorize(lane)
        s.unroll(column)
        s.vectorize(inner)

    def cost(self) -> Cost:
        c = self.conv
        outputs = c.out_height * c.out_width
        weights = self.blocks * self.tile * c.taps * c.in_channels
        extra = sum(a.elements for a in self.operands)
        return Cost(
            macs=outputs * weights,
            ops=outputs * c.out_channels * pointwise.ops(self.post),
            bytes_read=4 * (c.height * c.width * c.in_channels + extra),
            bytes_written=4 * outputs * c.out_channels,
            weight_bytes=4 * (weights + c.out_channels),
        )


@dataclass(frozen=True)
class GroupedConvFp32(FloatConv):
    """Grouped and depthwise: w [KH, KW, I / groups, O]."""

    kind: ClassVar[str] = "depthwise_fp32"
    operands: tuple[Accessor, ...] = ()
    post: tuple[Step, ...] = ()

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        c = self.conv
        per_group = c.in_channels // c.groups
        w = te.placeholder((*c.kernel, per_group, c.out_channels), "float32", "w")
        x, read, axes = self.window(per_group)
        kh, kw, ic = axes

        def channel(o: Any) -> Any:
            if c.groups == c.out_channels == c.in_channels:
                return o
            return o // (c.out_channels // c.groups) * per_group + ic

        tile = te.compute(
            self.out_shape,
            lambda n, h, v, o: te.sum(read(h, v, channel(o)) * w[kh, kw, ic, o], axis=axes),
            name="conv",
        )
        tail = self.output(lambda h, v, o: tile[0, h, v, o], self.operands, self.post)
        s = schedule.create([x, w, *tail])
        self._schedule(s, target)
        return schedule.finish(s)

    def _schedule(self, s: s_tir.Schedule, target: Target) -> None:
        conv, out = s.get_sblock("conv"), s.get_sblock("out")
        n, h, v, o = s.get_loops(out)
        s.parallel(s.fuse(n, h))
        s.compute_at(conv, v, preserve_unit_loops=True)
        s.set_scope(conv, 0, "local")
        schedule.reduction(s, conv, 3, target.fp32_lanes)
        width = self.conv.out_channels
        if width % target.fp32_lanes == 0:
            _, inner = s.split(o, [None, target.fp32_lanes])
            s.vectorize(inner)

    def cost(self) -> Cost:
        c = self.conv
        outputs = c.out_height * c.out_width * c.out_channels
        weights = c.taps * (c.in_channels // c.groups) * c.out_channels
        extra = sum(a.elements for a in self.operands)
        return Cost(
            macs=outputs * c.taps * (c.in_channels // c.groups),
            ops=outputs * pointwise.ops(self.post),
            bytes_read=4 * (c.height * c.width * c.in_channels + extra),
            bytes_written=4 * outputs,
            weight_bytes=4 * (weights + c.out_channels),
        )
