"""float32 convolution: direct, NHWC, channels in register tiles; grouped and depthwise too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, te, tirx, topi

from host.lower.kernels import pointwise, schedule
from host.lower.kernels.kernel import Accessor, Cost, logical
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
class ConvFp32:
    """x [1, H, W, I], w [O / tile, KH, KW, I, tile], bias [O], operands -> [1, OH, OW, O]."""

    conv: ConvShape
    tile: int
    operands: tuple[Accessor, ...] = ()
    post: tuple[Step, ...] = ()

    @property
    def kind(self) -> str:
        return "conv_fp32"

    @property
    def out_shape(self) -> Shape:
        return self.conv.out_shape

    @property
    def out_dtype(self) -> str:
        return "float32"

    @property
    def blocks(self) -> int:
        return math.ceil(self.conv.out_channels / self.tile)

    def logical_index(self, stored: Any) -> list[Any]:
        """Return an index of the destination as the operands of the epilogue count it."""
        return logical(stored, NHWC)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        c = self.conv
        x = te.placeholder((1, c.height, c.width, c.in_channels), "float32", "x")
        w = te.placeholder((self.blocks, *c.kernel, c.in_channels, self.tile), "float32", "w")
        bias = te.placeholder((c.out_channels,), "float32", "bias")
        extra = [a.placeholder(f"r{i}") for i, a in enumerate(self.operands)]
        xp = padded(x, c.padding)
        kh = te.reduce_axis((0, c.kernel[0]), "kh")
        kw = te.reduce_axis((0, c.kernel[1]), "kw")
        ic = te.reduce_axis((0, c.in_channels), "ic")
        tile = te.compute(
            (self.blocks, c.out_height, c.out_width, self.tile),
            lambda o, h, v, i: te.sum(
                xp[0, h * c.stride[0] + kh, v * c.stride[1] + kw, ic] * w[o, kh, kw, ic, i],
                axis=[kh, kw, ic],
            ),
            name="conv",
        )

        def element(*stored: Any) -> Any:
            _, h, v, o = stored
            value = tile[o // self.tile, h, v, o % self.tile] + bias[o]
            index = self.logical_index(stored)
            return pointwise.apply(
                value, self.post, lambda k: self.operands[k].read(extra[k], index)
            )

        out = te.compute(self.out_shape, element, name="out")
        s = schedule.create([x, w, bias, *extra, out])
        self._schedule(s, target)
        return schedule.finish(s)

    def _schedule(self, s: s_tir.Schedule, target: Target) -> None:
        conv, out = s.get_sblock("conv"), s.get_sblock("out")
        n, h, v, o = s.get_loops(out)
        pixels = schedule.best_tile(self.conv.out_width, target.tile_pixels)
        outer, inner = s.split(o, [None, self.tile])
        columns, column = s.split(v, [None, pixels])
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
class GroupedConvFp32:
    """x [1, H, W, I], w [KH, KW, I / groups, O], bias [O], operands -> [1, OH, OW, O]."""

    conv: ConvShape
    operands: tuple[Accessor, ...] = ()
    post: tuple[Step, ...] = ()

    @property
    def kind(self) -> str:
        return "depthwise_fp32"

    @property
    def out_shape(self) -> Shape:
        return self.conv.out_shape

    @property
    def out_dtype(self) -> str:
        return "float32"

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        c = self.conv
        per_group = c.in_channels // c.groups
        outputs_per_group = c.out_channels // c.groups
        x = te.placeholder((1, c.height, c.width, c.in_channels), "float32", "x")
        w = te.placeholder((*c.kernel, per_group, c.out_channels), "float32", "w")
        bias = te.placeholder((c.out_channels,), "float32", "bias")
        extra = [a.placeholder(f"r{i}") for i, a in enumerate(self.operands)]
        xp = padded(x, c.padding)
        kh = te.reduce_axis((0, c.kernel[0]), "kh")
        kw = te.reduce_axis((0, c.kernel[1]), "kw")
        ic = te.reduce_axis((0, per_group), "ic")

        def channel(o: Any) -> Any:
            return (
                o
                if c.groups == c.out_channels == c.in_channels
                else (o // outputs_per_group * per_group + ic)
            )

        tile = te.compute(
            self.out_shape,
            lambda n, h, v, o: te.sum(
                xp[0, h * c.stride[0] + kh, v * c.stride[1] + kw, channel(o)] * w[kh, kw, ic, o],
                axis=[kh, kw, ic],
            ),
            name="conv",
        )

        def element(*stored: Any) -> Any:
            index = logical(stored, NHWC)
            value = tile(*stored) + bias[stored[3]]
            return pointwise.apply(
                value, self.post, lambda k: self.operands[k].read(extra[k], index)
            )

        out = te.compute(self.out_shape, element, name="out")
        s = schedule.create([x, w, bias, *extra, out])
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
