"""int8 product into int32: smull, smull2 and sadalp on NEON, pmaddwd on AVX2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from host.lower.kernels.integer_gemm import (
    COLUMN_TILE,
    ROW_TILE,
    TILES,
    IntegerGemm,
    store_tiles,
)
from host.lower.kernels.kernel import Cost
from host.lower.kernels.tvmscript import indent, llvm
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

    def body(self, target: Target) -> list[str]:
        """Return the script of one tile."""
        lanes = 4 if target.arch == "aarch64" else 8
        wide = "int8x16" if target.arch == "aarch64" else "int16x16"
        inner = [f"w{j}: T.let = {_load(f'W.vload([no, k, {j}, 0]', wide)}" for j in range(4)]
        for i in range(ROW_TILE):
            inner.append(f"a{i}: T.let = {_load(f'A.vload([mo * 4 + {i}, k * 16]', wide)}")
            inner += [
                f"acc[{i * 4 + j}] = acc[{i * 4 + j}] + {_product(f'a{i}', f'w{j}', target)}"
                for j in range(COLUMN_TILE)
            ]
        return [
            f"acc = T.sblock_alloc_buffer(({TILES},), 'int32x{lanes}', scope='local')",
            *(f"acc[{t}] = T.broadcast(T.int32(0), {lanes})" for t in range(TILES)),
            f"for k in range({self.padded[2] // K_TILE}):",
            *indent(inner, 1),
            *store_tiles("acc", lanes),
        ]

    def cost(self) -> Cost:
        m, n, k = self.padded
        return Cost(
            macs=m * n * k,
            bytes_read=m * k,
            bytes_written=4 * m * n,
            weight_bytes=n * k,
        )


def _load(source: str, dtype: str) -> str:
    load = f"{source}, 'int8x16')"
    return load if dtype == "int8x16" else f"T.cast({load}, '{dtype}')"


def _product(a: str, w: str, target: Target) -> str:
    if target.arch != "aarch64":
        return llvm("x86.avx2.pmadd.wd", a, w, dtype="int32x8")
    halves = [
        llvm(
            "aarch64.neon.smull.v8i16",
            f"T.vector{half}({a}, dtype='int8x8')",
            f"T.vector{half}({w}, dtype='int8x8')",
            dtype="int16x8",
        )
        for half in ("low", "high")
    ]
    return llvm("aarch64.neon.saddlp.v4i32.v8i16", " + ".join(halves), dtype="int32x4")
