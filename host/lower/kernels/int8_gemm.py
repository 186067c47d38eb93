"""int8 product into int32: smull, smull2 and sadalp on NEON, pmaddwd on AVX2."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels.integer_gemm import (
    COLUMN_TILE,
    ROW_TILE,
    TILES,
    IntegerGemm,
    accumulate,
    clear,
    llvm,
    registers,
)
from host.lower.kernels.kernel import Cost
from host.lower.program import Shape
from host.lower.targets import Target

K_TILE = IntegerGemm.depth_tile


@dataclass(frozen=True)
class Int8Gemm(IntegerGemm):
    """a [M, K] int8, w [N / 4, K / 16, 4, 16] int8 in [-127, 127] -> [M, N] int32.

    Two products of -128 and 127 still fit the int16 halves that NEON adds first.
    """

    kind: ClassVar[str] = "int8_gemm"

    @property
    def operand_shapes(self) -> tuple[Shape, Shape, str]:
        """Shapes of a and w, and their element type."""
        m, n, k = self.padded
        return (m, k), (n // COLUMN_TILE, k // K_TILE, COLUMN_TILE, K_TILE), "int8"

    def tile(self, a: Any, w: Any, store: Any, at: tuple[Any, Any], target: Target) -> None:
        lanes = 4 if target.arch == "aarch64" else 8
        mo, no = at
        acc = registers(TILES, f"int32x{lanes}")
        clear(acc, tirx.const(0, "int32"), lanes)
        with T.serial(0, self.padded[2] // K_TILE) as k:
            accumulate(
                acc,
                lambda i: _load(a, [mo * ROW_TILE + i, k * K_TILE], target),
                lambda j: _load(w, [no, k, j, 0], target),
                partial(_product, target=target),
            )
        store(acc, lanes)

    def cost(self) -> Cost:
        m, n, k = self.padded
        return Cost(
            macs=m * n * k,
            bytes_read=m * k,
            bytes_written=4 * m * n,
            weight_bytes=n * k,
        )


def _load(buffer: Any, index: list[Any], target: Target) -> Any:
    codes = buffer.vload(index, "int8x16")
    return codes if target.arch == "aarch64" else codes.astype("int16x16")


def _product(a: Any, w: Any, *, target: Target) -> Any:
    if target.arch != "aarch64":
        return llvm("x86.avx2.pmadd.wd", a, w, dtype="int32x8")
    low, high = (
        llvm("aarch64.neon.smull.v8i16", half("int8x8", a), half("int8x8", w), dtype="int16x8")
        for half in (tirx.vectorlow, tirx.vectorhigh)
    )
    return llvm("aarch64.neon.saddlp.v4i32.v8i16", low + high, dtype="int32x4")
