"""float32 activations to integer codes, with the padding that a convolution needs already there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import te, tirx

from host.lower.kernels import schedule
from host.lower.kernels.kernel import Cost, Kernel
from host.lower.program import Shape
from host.lower.targets import Target

INT8_OFFSET = 128


@dataclass(frozen=True)
class Quantize(Kernel):
    """x [1, H, W, C], quantizer [inverse scale, zero point] -> codes [1, H + 2P, W + 2P, C].

    code = clamp(round_half_even(x * inverse) + zero, 0, 2^bits - 1); eight-bit codes are stored
    signed, less 128. The border holds the zero point, which stands for 0.0.
    """

    kind: ClassVar[str] = "quantize"
    height: int
    width: int
    channels: int
    padding: tuple[int, int]
    bits: int

    @property
    def out_shape(self) -> Shape:
        rows, columns = self.padding
        return (1, self.height + 2 * rows, self.width + 2 * columns, self.channels)

    @property
    def out_dtype(self) -> str:
        return "int8" if self.bits == 8 else "uint8"

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        x = te.placeholder((1, self.height, self.width, self.channels), "float32", "x")
        quantizer = te.placeholder((2,), "float32", "quantizer")
        top = tirx.const(float(2**self.bits - 1), "float32")
        offset = tirx.const(float(INT8_OFFSET if self.bits == 8 else 0), "float32")

        def code(n: Any, h: Any, v: Any, c: Any) -> Any:
            row, column = h - self.padding[0], v - self.padding[1]
            value = tirx.nearbyint(x[n, row, column, c] * quantizer[0]) + quantizer[1]
            value = te.max(te.min(value, top), tirx.const(0.0, "float32"))
            if self.padding != (0, 0):
                inside = tirx.all(row >= 0, row < self.height, column >= 0, column < self.width)
                value = tirx.if_then_else(inside, value, quantizer[1])
            return (value - offset).astype("int32").astype(self.out_dtype)

        out = te.compute(self.out_shape, code, name="out")
        s = schedule.create([x, quantizer, out])
        schedule.rows(s, s.get_sblock("out"), target.fp32_lanes)
        return schedule.finish(s)

    def cost(self) -> Cost:
        inside = self.height * self.width * self.channels
        codes = math.prod(self.out_shape)
        return Cost(ops=6 * inside, bytes_read=4 * inside, bytes_written=codes, weight_bytes=8)
