"""float32 convolution in groups of more than one channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import s_tir, te, tirx

from host.lower.kernels import pointwise, schedule
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.float_conv import NHWC, FloatConv
from host.lower.kernels.kernel import Accessor, Cost, logical
from host.lower.kernels.pool import padded
from host.lower.program import Step
from host.lower.targets import Target


@dataclass(frozen=True)
class GroupedConvFp32(FloatConv):
    """x [1, H, W, I], w [KH, KW, I / groups, O], bias [O], operands -> [1, OH, OW, O]."""

    kind: ClassVar[str] = "grouped_fp32"
    conv: ConvShape
    operands: tuple[Accessor, ...] = ()
    post: tuple[Step, ...] = ()

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
            index = logical(stored, NHWC)
            value = tile(*stored[1:]) + bias[stored[3]]
            return pointwise.apply(value, post, lambda k: operands[k].read(extra[k], index))

        return [bias, *extra, te.compute(self.out_shape, element, name="out")]

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        c = self.conv
        per_group = c.in_channels // c.groups
        w = te.placeholder((*c.kernel, per_group, c.out_channels), "float32", "w")
        x, read, axes = self.window(per_group)
        kh, kw, ic = axes

        def channel(o: Any) -> Any:
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
