"""What float convolutions share: a picture as NHWC, and bias and pointwise steps on their sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit, pointwise
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.kernel import Accessor, Kernel, logical
from host.lower.program import Shape, Step
from host.lower.targets import Target

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


def bordered(c: ConvShape, x: Any, loop: Any, target: Target) -> Any:
    """Return the picture as one run, copied between zeros where padding asks for them."""
    height, width = c.bordered
    size = height * width * c.in_channels
    if c.padding == (0, 0):
        return T.decl_buffer((size,), "float32", data=x.data)
    flat = T.sblock_alloc_buffer((size,), "float32")
    lanes = 4 * target.fp32_lanes

    def clear(start: Any, count: int) -> None:
        def zeros(at: Any, n: int) -> None:
            zero = emit.spread(tirx.const(0.0, "float32"), n)
            T.buffer_store(flat, zero, [emit.run(start + at, n)])

        emit.vectors(count, lanes, zeros)

    row, side = width * c.in_channels, c.padding[1] * c.in_channels
    clear(0, c.padding[0] * row)
    clear((c.padding[0] + c.height) * row, c.padding[0] * row)
    with loop(0, c.height) as line:
        start = T.bind((line + c.padding[0]) * row)
        clear(start, side)
        clear(start + row - side, side)
        source = T.decl_buffer((c.height, c.width * c.in_channels), "float32", data=x.data)

        def copy(at: Any, n: int) -> None:
            value = source.vload([line, at], emit.vector("float32", n))
            T.buffer_store(flat, value, [emit.run(start + side + at, n)])

        emit.vectors(c.width * c.in_channels, lanes, copy)
    return flat
