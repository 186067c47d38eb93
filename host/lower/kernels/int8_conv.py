"""int8 convolution and dense: direct, without a matrix of patches, results fused.

The bytes under a line of the kernel are one run of KW * C neighbouring codes, so that any number
of channels fills vectors. Two ways to multiply:

* along the run (NEON's smull, smlal2 and sadalp; AVX2's pmaddwd): vectors hold one pixel's codes,
  and their lanes are added up at the end;
* along the channels (vpdpbusd of AVX-512): lanes are output channels, four codes are broadcast.
"""

from __future__ import annotations

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
from host.lower.kernels.register_tile import RegisterTile, register_tile
from host.lower.targets import Target

RUN_BYTES = 16
QUAD_BYTES = 4
# Sums of a row by itself: with their weights they fill NEON's registers.
ROW_COLUMNS = range(4, 13)


@dataclass(frozen=True)
class Int8Conv(IntegerProduct):
    """codes, w [N / tile, KH, KW * C / k, tile * k] int8 in [-127, 127] -> output.

    `depth` is k, the codes of a run that one step takes.
    """

    kind: ClassVar[str] = "int8_conv"
    conv: ConvShape
    codes: Codes
    depth: int

    @property
    def line(self) -> int:
        return self.conv.out_width

    @property
    def steps(self) -> int:
        """Steps along a run."""
        return -(-self.conv.kernel[1] * self.conv.in_channels // self.depth)

    @property
    def operand_parameters(self) -> list[emit.Parameter]:
        """Codes and weights."""
        weights = (self.blocks, self.conv.kernel[0], self.steps, self.tile * self.depth)
        return [("a", self.codes.shape, self.codes.dtype), ("w", weights, "int8")]

    def sums(self, a: Any, w: Any, at: tuple[Any, Any, Any], target: Target) -> Any:
        product = _along_channels if self.depth == QUAD_BYTES else _along_run
        return product(self, a, w, at, target)

    def start(self, line: Any, pixel: Any, tap: Any) -> Any:
        """Return the index of the first code of a run."""
        c = self.conv
        row = line * c.stride[0] + tap
        return row * self.codes.row + pixel * c.stride[1] * self.codes.channels

    def cost(self) -> Cost:
        weights = self.blocks * self.tile * self.conv.kernel[0] * self.steps * self.depth
        rest = self.output.cost()
        return Cost(
            macs=self.output.rows * weights,
            ops=rest.ops,
            bytes_read=rest.bytes_read + self.codes.count,
            bytes_written=rest.bytes_written,
            weight_bytes=rest.weight_bytes + weights,
        )


def int8_tile(line: int, channels: int, target: Target) -> tuple[RegisterTile, int]:
    """Return the register tile of an int8 product, and how many codes a step takes."""
    if target.int8 == "vpdpbusd":
        return register_tile(line, max(channels, target.fp32_lanes), target), QUAD_BYTES
    if line == 1 and target.arch == "aarch64":
        return RegisterTile(1, _row_columns(channels)), RUN_BYTES
    columns = 4
    # What is not a sum: a vector of weights for every column, and twice that for products.
    room = max(target.vector_registers // columns - 3, 2)
    return RegisterTile(min(line, room), columns), RUN_BYTES


def _row_columns(channels: int) -> int:
    """Return the columns of a row that stands alone: what is computed for nothing least, then most.

    Four of them are over before the products of the first have arrived.
    """
    return min(ROW_COLUMNS, key=lambda columns: (-channels % columns, -columns))


def _along_channels(
    kernel: Int8Conv, a: Any, w: Any, at: tuple[Any, Any, Any], target: Target
) -> Any:
    lanes = target.fp32_lanes
    vectors = kernel.tile // lanes
    count = kernel.pixels * kernel.tile
    block, line, first = at
    sums = emit.registers(count, "int32")
    for t in range(0, count, lanes):
        T.buffer_store(sums, _zeros(lanes), [tirx.Ramp(t, 1, lanes)])
    with T.serial(0, kernel.conv.kernel[0]) as tap, T.serial(0, kernel.steps) as step:
        weights = []
        for v in range(vectors):
            start = v * lanes * QUAD_BYTES
            weights.append(T.bind(w.vload([block, tap, step, start], f"int8x{lanes * 4}")))
        for i in range(kernel.pixels):
            start = kernel.start(line, first + i, tap) + step * QUAD_BYTES
            quad = tirx.reinterpret("int32", a.vload([start], "uint8x4"))
            codes = T.bind(tirx.reinterpret(f"uint8x{lanes * 4}", tirx.Broadcast(quad, lanes)))
            for v, weight in enumerate(weights):
                t = i * kernel.tile + v * lanes
                total = sums.vload([t], f"int32x{lanes}")
                made = emit.llvm(
                    f"x86.avx512.vpdpbusd.{32 * lanes}",
                    total,
                    codes,
                    weight,
                    dtype=f"int32x{lanes}",
                )
                T.buffer_store(sums, made, [tirx.Ramp(t, 1, lanes)])
    return sums


def _along_run(kernel: Int8Conv, a: Any, w: Any, at: tuple[Any, Any, Any], target: Target) -> Any:
    neon = target.arch == "aarch64"
    lanes = 4 if neon else 8
    block, line, first = at
    columns = kernel.tile
    acc = emit.registers(kernel.pixels * columns, f"int32x{lanes}")
    emit.clear(acc, tirx.const(0, "int32"), lanes)
    lines = kernel.conv.kernel[0]
    # A single step would be taken apart among the steps of the epilogue.
    alone = neon and lines * kernel.steps == 1
    steps = tirx.max(emit.hidden(1), 1) if alone else kernel.steps
    with T.serial(0, lines) as tap, T.serial(0, steps) as step:

        def code(i: int) -> Any:
            start = kernel.start(line, first + i, tap) + step * RUN_BYTES
            return _load(a, [start], kernel.codes.dtype, neon)

        def weight(j: int) -> Any:
            return _load(w, [block, tap, step, j * RUN_BYTES], "int8", neon)

        emit.accumulate(acc, kernel.pixels, code, columns, weight, partial(_product, neon=neon))
    return emit.across(acc, kernel.pixels, columns, target)


def _load(buffer: Any, index: list[Any], dtype: str, neon: bool) -> Any:
    codes = buffer.vload(index, f"{dtype}x{RUN_BYTES}")
    return codes if neon else codes.astype(f"int16x{RUN_BYTES}")


def _product(a: Any, w: Any, *, neon: bool) -> Any:
    if not neon:
        return emit.llvm("x86.avx2.pmadd.wd", a, w, dtype="int32x8")
    smull = partial(emit.llvm, "aarch64.neon.smull.v8i16", dtype="int16x8")
    low, high = (
        smull(half("int8x8", a), half("int8x8", w)) for half in (tirx.vectorlow, tirx.vectorhigh)
    )
    return emit.llvm("aarch64.neon.saddlp.v4i32.v8i16", low + high, dtype="int32x4")


def _zeros(lanes: int) -> Any:
    return tirx.Broadcast(tirx.const(0, "int32"), lanes)
