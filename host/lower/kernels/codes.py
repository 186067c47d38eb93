"""How the integer codes of a picture lie in memory, and the steps from float32 to codes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit
from host.lower.program import Shape
from host.lower.targets import Target
from host.policy import INT8_BITS

INT8_OFFSET = 128
# Integer kernels load whole vectors, up to this many bytes beyond the last code.
SLACK_BYTES = 128
# Beyond all codes, and far from where int32 ends.
LARGE = float(1 << 20)
# Channels whose bits share a byte of a plane.
PLANE_CHANNELS = 8


def round_up(value: int, multiple: int) -> int:
    """Return the next multiple."""
    return math.ceil(value / multiple) * multiple


@dataclass(frozen=True)
class Codes:
    """Codes [H + 2P, W + 2P, C], one byte each, flat and with slack; the border is the zero point.

    Eight-bit codes are stored less 128 where the target's products want signed bytes. Fewer bits
    are packed in planes: their channels are padded with zeros to whole bytes of a plane.
    """

    height: int
    width: int
    channels: int
    padding: tuple[int, int]
    bits: int
    signed: bool

    @property
    def pixel(self) -> int:
        """Bytes of a pixel."""
        return self.channels if self.bits == INT8_BITS else round_up(self.channels, PLANE_CHANNELS)

    @property
    def row(self) -> int:
        """Bytes of a line of pixels, its border included."""
        return (self.width + 2 * self.padding[1]) * self.pixel

    @property
    def count(self) -> int:
        """Codes, the border included."""
        return (self.height + 2 * self.padding[0]) * self.row

    @property
    def shape(self) -> Shape:
        """Stored shape."""
        return (self.count + SLACK_BYTES,)

    @property
    def dtype(self) -> str:
        """Element type."""
        return "int8" if self.signed else "uint8"

    @property
    def offset(self) -> int:
        """What is taken from a code before it is stored."""
        return INT8_OFFSET if self.signed else 0

    def at(self, row: Any, column: Any, channel: Any = 0) -> Any:
        """Return the index of a code of the picture."""
        rows, columns = self.padding
        return (row + rows) * self.row + (column + columns) * self.pixel + channel

    def store(
        self, out: Any, at: Any, values: Any, quantizer: Any, target: Target, instead: Any = None
    ) -> None:
        """Emit the codes of a buffer of floats [count] to index `at` on.

        `instead(i, lanes)` is None, or gives (condition, int32 vector) to store where it holds.
        """

        def value(start: int, lanes: int) -> Any:
            dtype = emit.vector("float32", lanes)
            convert = self._saturated if self._saturates(lanes, target) else self._code
            code = convert(values.vload([start], dtype), quantizer, lanes)
            return tirx.Select(*instead(start, lanes), code) if instead else code

        emit.store_bytes(out, at, int(values.shape[0]), value, target)

    def _code(self, value: Any, quantizer: Any, lanes: int) -> Any:
        """Return floats as int32 codes, as stored: clamp(round(x * inverse) + zero, 0, top).

        On explicit vectors: rounding keeps a vectorised loop from being one.
        """
        scaled = tirx.nearbyint(value * quantizer[0]) + quantizer[1]
        top = tirx.const(float(2**self.bits - 1), "float32")
        clamped = te.max(te.min(scaled, top), tirx.const(0.0, "float32"))
        shifted = clamped - tirx.const(float(self.offset), "float32")
        return shifted.astype(emit.vector("int32", lanes))

    def _saturates(self, lanes: int, target: Target) -> bool:
        """Whether the way from int32 to stored bytes clamps by itself."""
        packed = lanes == target.fp32_lanes == emit.AVX512_LANES
        return packed and self.bits == INT8_BITS and not self.signed

    def _saturated(self, value: Any, quantizer: Any, lanes: int) -> Any:
        """Return floats as int32 that are still to be clamped; AVX-512 rounds as it converts."""
        scaled = te.min(value * quantizer[0], tirx.const(LARGE, "float32"))
        return emit.rounded(scaled) + emit.spread(quantizer[1].astype("int32"), lanes)

    def fill(self, out: Any, quantizer: Any) -> None:
        """Emit all stores but those of the picture: border, slack and padded channels."""
        zero = (quantizer[1] - tirx.const(float(self.offset), "float32")).astype("int32")
        zero = T.bind(zero.astype(self.dtype))
        first, last = self.at(0, 0), self.at(self.height - 1, self.width)
        _fill(out, 0, first, zero)
        if self.padding[1]:
            with T.serial(0, self.height - 1) as line:
                _fill(out, self.at(line, self.width), 2 * self.padding[1] * self.pixel, zero)
        _fill(out, last, self.shape[0] - last, zero)
        if self.pixel != self.channels:
            nothing = tirx.const(0, self.dtype)
            with T.serial(0, self.count // self.pixel) as pixel:
                start = pixel * self.pixel + self.channels
                _fill(out, start, self.pixel - self.channels, nothing)


def _fill(out: Any, start: Any, count: int, value: Any) -> None:
    if count:
        with T.serial(0, count) as i:
            T.buffer_store(out, value, [start + i])
