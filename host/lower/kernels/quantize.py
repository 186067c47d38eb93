"""float32 activations to integer codes, with the padding that a convolution needs already there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit
from host.lower.kernels.codes import Codes
from host.lower.kernels.kernel import Cost, Kernel
from host.lower.program import Shape
from host.lower.targets import Target


@dataclass(frozen=True)
class Quantize(Kernel):
    """x [1, H, W, C], quantizer [inverse scale, zero point] -> codes."""

    kind: ClassVar[str] = "quantize"
    codes: Codes

    @property
    def out_shape(self) -> Shape:
        return self.codes.shape

    @property
    def out_dtype(self) -> str:
        return self.codes.dtype

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        c = self.codes
        # A line is one run where no channels are padded.
        runs, length = (c.width, c.channels) if c.pixel != c.channels else (1, c.width * c.channels)

        def body(x: Any, quantizer: Any, out: Any) -> None:
            c.fill(out, quantizer)
            with T.parallel(0, c.height) as line, T.serial(0, runs) as run:

                def quantize(start: Any, lanes: int) -> None:
                    values = emit.registers(lanes, "float32")
                    with T.vectorized(0, lanes) as lane:
                        T.buffer_store(values, x[0, line, run, start + lane], [lane])
                    c.store(out, c.at(line, run) + start, values, quantizer, target)

                emit.vectors(length, 4 * target.fp32_lanes, quantize)

        x_shape = (1, c.height, c.width, c.channels)
        parameters = [("x", x_shape, "float32"), ("quantizer", (2,), "float32")]
        return emit.function([*parameters, ("out", c.shape, c.dtype)], body)

    def cost(self) -> Cost:
        c = self.codes
        inside = c.height * c.width * c.channels
        return Cost(ops=6 * inside, bytes_read=4 * inside, bytes_written=c.count, weight_bytes=8)
