"""int8 depthwise convolution: every channel by itself, vectors along the channels, results fused.

Two ways to multiply:

* NEON: the products of two taps fit 16 bits together (smull, smlal), then widen to 32 (saddw);
* x86: codes of two or four lines of the kernel are put side by side in 32 bits, once for all
  pixels that read the column, and multiplied together (pmaddwd or vpdpbusd).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit
from host.lower.kernels.codes import Codes
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.integer_product import IntegerProduct
from host.lower.kernels.kernel import Cost
from host.lower.targets import Int8, Target

# Lines of the kernel that are multiplied by one instruction.
LINES: dict[Int8, int] = {"smull": 1, "pmaddwd": 2, "vpdpbusd": 4}
WORD_BITS = 32
NEON_CODES = 8
NEON_LANES = 4
# Registers of sums on NEON: the rest hold codes, weights and products.
NEON_SUMS = 16
# More neighbours share few further columns.
MOST_PIXELS = 14


@dataclass(frozen=True)
class Int8Depthwise(IntegerProduct):
    """codes, w [C / tile, KH / g, KW, tile * g] int8 in [-127, 127] -> output.

    `lines` is g: so many lines of the kernel lie side by side, the last ones padded with zeros.
    """

    kind: ClassVar[str] = "int8_depthwise"
    conv: ConvShape
    codes: Codes
    lines: int

    @property
    def line(self) -> int:
        return self.conv.out_width

    @property
    def bands(self) -> int:
        """Groups of lines of the kernel."""
        return math.ceil(self.conv.kernel[0] / self.lines)

    @property
    def operand_parameters(self) -> list[emit.Parameter]:
        """Codes and weights."""
        weights = (self.blocks, self.bands, self.conv.kernel[1], self.tile * self.lines)
        return [("a", self.codes.shape, self.codes.dtype), ("w", weights, "int8")]

    def place(self, job: Any, lines: int) -> tuple[Any, Any]:
        """Take all channels of a line before the next line: no weights are worth keeping near."""
        return job % self.blocks, job // self.blocks

    def sums(self, a: Any, w: Any, at: tuple[Any, Any, Any], target: Target) -> Any:
        product = _by_taps if target.int8 == "smull" else _by_columns
        return product(self, a, w, at, target)

    def start(self, at: tuple[Any, Any, Any], tap: tuple[Any, Any]) -> Any:
        """Return the index of the code that a tap of the first pixel reads."""
        (block, line, first), c = at, self.conv
        row, column = line * c.stride[0] + tap[0], first * c.stride[1] + tap[1]
        return row * self.codes.row + column * self.codes.channels + block * self.tile

    def cost(self) -> Cost:
        weights = self.blocks * self.tile * self.bands * self.lines * self.conv.kernel[1]
        rest = self.output.cost()
        return Cost(
            macs=self.output.rows * weights,
            ops=rest.ops,
            bytes_read=rest.bytes_read + self.codes.count,
            bytes_written=rest.bytes_written,
            weight_bytes=rest.weight_bytes + weights,
        )


def depthwise_tile(conv: ConvShape, target: Target) -> tuple[int, int]:
    """Return the pixels and channels whose sums stay in registers."""
    if target.int8 == "smull":
        wide = math.ceil(conv.out_channels / NEON_CODES) % 2 == 0
        channels = NEON_CODES * (2 if wide else 1)
        room = NEON_SUMS * NEON_LANES // channels
    else:
        channels = target.fp32_lanes
        # What is not a sum: the weights of a line, a column and what it is put together from.
        room = target.vector_registers - conv.kernel[1] - 3
    most = min(max(room, 4), MOST_PIXELS)
    return math.ceil(conv.out_width / math.ceil(conv.out_width / most)), channels


def _by_columns(
    kernel: Int8Depthwise, a: Any, w: Any, at: tuple[Any, Any, Any], target: Target
) -> Any:
    c, lanes = kernel.conv, kernel.tile
    sums = _cleared(kernel, lanes)
    for band in range(kernel.bands):
        rows = range(band * kernel.lines, min((band + 1) * kernel.lines, c.kernel[0]))
        weights = [
            T.bind(w.vload([at[0], band, tap, 0], f"int8x{lanes * kernel.lines}"))
            for tap in range(c.kernel[1])
        ]
        for column in range((kernel.pixels - 1) * c.stride[1] + c.kernel[1]):
            readers = [
                (i, column - i * c.stride[1])
                for i in range(kernel.pixels)
                if 0 <= column - i * c.stride[1] < c.kernel[1]
            ]
            if not readers:
                continue
            codes = [a.vload([kernel.start(at, (r, column))], f"uint8x{lanes}") for r in rows]
            together = T.bind(_side_by_side(codes, lanes, WORD_BITS // kernel.lines))
            for i, tap in readers:
                total = sums.vload([i * lanes], f"int32x{lanes}")
                made = _dot(total, together, weights[tap], lanes, target)
                T.buffer_store(sums, made, [tirx.Ramp(i * lanes, 1, lanes)])
    return sums


def _side_by_side(codes: list[Any], lanes: int, bits: int) -> Any:
    """Return words of which each code takes so many bits, the first one the lowest."""
    words = [code.astype(f"int32x{lanes}") for code in codes]
    together = words[0]
    for i, word in enumerate(words[1:], start=1):
        together = together | (word << tirx.Broadcast(tirx.const(i * bits, "int32"), lanes))
    return together


def _dot(total: Any, codes: Any, weights: Any, lanes: int, target: Target) -> Any:
    """Add to each sum the products of its word's codes with its weights."""
    bits, dtype = WORD_BITS * lanes, f"int32x{lanes}"
    if target.int8 == "vpdpbusd":
        codes = tirx.reinterpret(f"uint8x{lanes * 4}", codes)
        return emit.llvm(f"x86.avx512.vpdpbusd.{bits}", total, codes, weights, dtype=dtype)
    halves = f"int16x{lanes * 2}"
    name = "x86.avx2.pmadd.wd" if bits == 256 else "x86.avx512.pmaddw.d.512"
    codes = tirx.reinterpret(halves, codes)
    return total + emit.llvm(name, codes, weights.astype(halves), dtype=dtype)


def _by_taps(
    kernel: Int8Depthwise, a: Any, w: Any, at: tuple[Any, Any, Any], target: Target
) -> Any:
    """Take two taps at a time: of two lines, on an odd last line neighbours."""
    rows, columns = kernel.conv.kernel
    sums = _cleared(kernel, NEON_LANES)
    add = partial(_add_taps, kernel, sums, a, w, at)
    if rows > 1:
        with T.serial(0, rows // 2) as pair, _rolled(columns) as tap:
            add((2 * pair, tap), (2 * pair + 1, tap))
    if rows % 2 and columns > 1:
        with _rolled(columns // 2) as pair:
            add((rows - 1, 2 * pair), (rows - 1, 2 * pair + 1))
    if rows % 2 and columns % 2:
        add((rows - 1, columns - 1))
    return sums


def _rolled(turns: int) -> Any:
    """Return a loop that LLVM must not unroll but may enter without a look at its count."""
    return T.serial(0, tirx.max(emit.hidden(turns), 1) if turns > 1 else 1)


def _add_taps(
    kernel: Int8Depthwise,
    sums: Any,
    a: Any,
    w: Any,
    at: tuple[Any, Any, Any],
    *taps: tuple[Any, Any],
) -> None:
    """Add the products of one or two taps to all sums of a tile."""

    def eight(codes: Any, first: int) -> Any:
        if kernel.tile == NEON_CODES:
            return codes
        return (tirx.vectorhigh if first else tirx.vectorlow)(f"int8x{NEON_CODES}", codes)

    step = kernel.conv.stride[1] * kernel.codes.channels
    starts = [T.bind(kernel.start(at, tap)) for tap in taps]
    weights = [T.bind(w.vload([at[0], *tap, 0], f"int8x{kernel.tile}")) for tap in taps]
    for i in range(kernel.pixels):
        codes = [T.bind(a.vload([s + i * step], f"int8x{kernel.tile}")) for s in starts]
        for first in range(0, kernel.tile, NEON_CODES):
            pairs = zip(codes, weights, strict=True)
            products = [_smull(eight(x, first), eight(y, first)) for x, y in pairs]
            both = products[0] + products[1] if len(products) > 1 else products[0]
            for part, half in enumerate((tirx.vectorlow, tirx.vectorhigh)):
                t = i * kernel.tile + first + part * NEON_LANES
                wide = half("int16x4", both).astype("int32x4")
                total = sums.vload([t], "int32x4") + wide
                T.buffer_store(sums, total, [tirx.Ramp(t, 1, NEON_LANES)])


def _smull(a: Any, w: Any) -> Any:
    return emit.llvm("aarch64.neon.smull.v8i16", a, w, dtype="int16x8")


def _cleared(kernel: Int8Depthwise, lanes: int) -> Any:
    """Return a buffer of the sums of a tile, all 0."""
    count = kernel.pixels * kernel.tile
    sums = emit.registers(count, "int32")
    for t in range(0, count, lanes):
        nothing = tirx.Broadcast(tirx.const(0, "int32"), lanes)
        T.buffer_store(sums, nothing, [tirx.Ramp(t, 1, lanes)])
    return sums
