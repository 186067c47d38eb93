"""Max and mean over windows of a picture [1, H, W, C]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import te, tirx, topi

from host.lower.kernels import schedule
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.kernel import Cost, Kernel
from host.lower.program import Shape
from host.lower.targets import Target


def padded(x: te.Tensor, padding: tuple[int, int], value: Any = 0.0) -> te.Tensor:
    """Return x [1, H, W, C] with a spatial border."""
    if padding == (0, 0):
        return x
    border = [0, *padding, 0]
    return topi.nn.pad(x, border, border, pad_value=value, name="xpad")


@dataclass(frozen=True)
class Pool(Kernel):
    """x [1, H, W, C] -> [1, OH, OW, C]; `reduce` is max or mean (padding counts as zeros)."""

    kind: ClassVar[str] = "pool"
    conv: ConvShape
    reduce: str

    @property
    def out_shape(self) -> Shape:
        return self.conv.out_shape

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        c = self.conv
        x = te.placeholder((1, c.height, c.width, c.in_channels), "float32", "x")
        largest = self.reduce == "max"
        border = te.min_value("float32") if largest else tirx.const(0.0, "float32")
        xp = padded(x, c.padding, border)
        kh = te.reduce_axis((0, c.kernel[0]), "kh")
        kw = te.reduce_axis((0, c.kernel[1]), "kw")
        combine = te.max if largest else te.sum
        factor = 1.0 if largest else 1.0 / c.taps

        def window(n: Any, h: Any, v: Any, o: Any) -> Any:
            value = xp[n, h * c.stride[0] + kh, v * c.stride[1] + kw, o]
            return combine(value, axis=[kh, kw])

        pooled = te.compute(self.out_shape, window, name="window")
        out = te.compute(
            self.out_shape, lambda *i: pooled(*i) * tirx.const(factor, "float32"), name="out"
        )
        s = schedule.create([x, out])
        schedule.reduction(s, s.get_sblock("window"), 2, target.fp32_lanes)
        schedule.rows(s, s.get_sblock("out"), target.fp32_lanes)
        return schedule.finish(s)

    def cost(self) -> Cost:
        c = self.conv
        outputs = c.out_height * c.out_width * c.out_channels
        return Cost(
            ops=outputs * (c.taps + 1),
            bytes_read=4 * c.height * c.width * c.in_channels,
            bytes_written=4 * outputs,
        )
