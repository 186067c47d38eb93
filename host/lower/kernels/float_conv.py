"""What float convolutions share: a picture as NHWC, and bias and pointwise steps on their sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit, pointwise
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.kernel import Accessor, Kernel, logical
from host.lower.program import Shape, Step

NHWC = (0, 2, 3, 1)


@dataclass(frozen=True)
class Epilogue:
    """Pointwise steps on a picture [1, H, W, C], their tensor operands read in place."""

    operands: tuple[Accessor, ...]
    post: tuple[Step, ...]

    def parameters(self, out_shape: Shape) -> list[emit.Parameter]:
        """Return bias [C], operands and the destination, in this order."""
        operands = [(f"r{i}", a.shape, "float32") for i, a in enumerate(self.operands)]
        return [
            ("bias", (out_shape[-1],), "float32"),
            *operands,
            ("out", out_shape, "float32"),
        ]

    def store(
        self, sums: Any, start: Any, buffers: tuple[Any, ...], at: tuple[Any, Any, Any], lanes: int
    ) -> None:
        """Emit the results of `sums[start:start + lanes]`; `at` is row, column and channel."""
        bias, *operands, out = buffers
        row, column, channel = at
        with T.vectorized(0, lanes) as lane:
            stored = (0, row, column, channel + lane)
            index = logical(stored, NHWC)
            value = pointwise.apply(
                sums[start + lane] + bias[channel + lane],
                self.post,
                lambda k: self.operands[k].read(operands[k], index),
            )
            T.buffer_store(out, value, list(stored))

    @property
    def elements(self) -> int:
        """Elements of all operands."""
        return sum(a.elements for a in self.operands)


class FloatConv(Kernel):
    """A kernel that makes a picture [1, OH, OW, O]; its fields are its subclass's to declare."""

    conv: ConvShape
    operands: tuple[Accessor, ...]
    post: tuple[Step, ...]

    @property
    def out_shape(self) -> Shape:
        return self.conv.out_shape

    @property
    def epilogue(self) -> Epilogue:
        """What is done with the sums."""
        return Epilogue(self.operands, self.post)
