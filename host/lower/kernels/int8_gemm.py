"""int8 product into int32: smull, smull2 and sadalp on NEON, pmaddwd on AVX2, in 4 x 4 tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm import tirx

from host.lower.kernels.im2col import round_up
from host.lower.kernels.kernel import Cost
from host.lower.kernels.tvmscript import indent, llvm, parse
from host.lower.program import Shape
from host.lower.targets import Target

ROW_TILE = 4
COLUMN_TILE = 4
K_TILE = 16


@dataclass(frozen=True)
class Int8Gemm:
    """a [M, K] int8, w [N / 4, K / 16, 4, 16] int8 in [-127, 127] -> [M, N] int32.

    Two products of -128 and 127 still fit the int16 halves that NEON adds first.
    """

    rows: int
    columns: int
    depth: int

    @property
    def kind(self) -> str:
        return "int8_gemm"

    @property
    def padded(self) -> tuple[int, int, int]:
        return (
            round_up(self.rows, ROW_TILE),
            round_up(self.columns, COLUMN_TILE),
            round_up(self.depth, K_TILE),
        )

    @property
    def out_shape(self) -> Shape:
        return self.padded[:2]

    @property
    def out_dtype(self) -> str:
        return "int32"

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        m, n, k = self.padded
        lanes = 4 if target.arch == "aarch64" else 8
        tiles = [(i, j) for i in range(ROW_TILE) for j in range(COLUMN_TILE)]
        wide = "int8x16" if target.arch == "aarch64" else "int16x16"
        inner = [f"w{j}: T.let = {_load(f'W.vload([no, k, {j}, 0]', wide)}" for j in range(4)]
        for i in range(ROW_TILE):
            inner.append(f"a{i}: T.let = {_load(f'A.vload([mo * 4 + {i}, k * 16]', wide)}")
            inner += [
                f"acc[{i * 4 + j}] = acc[{i * 4 + j}] + {_product(f'a{i}', f'w{j}', target)}"
                for j in range(COLUMN_TILE)
            ]
        sums = [
            f"C[mo * 4 + {i}, no * 4 + {j}] = "
            + llvm(f"vector.reduce.add.v{lanes}i32", f"acc[{i * 4 + j}]", dtype="int32")
            for i, j in tiles
        ]
        body = [
            f"acc = T.sblock_alloc_buffer((16,), 'int32x{lanes}', scope='local')",
            *(f"acc[{t}] = T.broadcast(T.int32(0), {lanes})" for t in range(16)),
            f"for k in range({k // 16}):",
            *indent(inner, 1),
            *sums,
        ]
        return parse(
            [
                "@T.prim_func(s_tir=True)",
                f"def main(A: T.Buffer(({m}, {k}), 'int8'), "
                f"W: T.Buffer(({n // 4}, {k // 16}, 4, 16), 'int8'), "
                f"C: T.Buffer(({m}, {n}), 'int32')):",
                "  T.func_attr({'global_symbol': 'main', 'tirx.noalias': True})",
                f"  for mo in T.parallel({m // 4}):",
                f"    for no in range({n // 4}):",
                "      with T.sblock('b'):",
                f"        T.reads(A[0:{m}, 0:{k}], W[0:{n // 4}, 0:{k // 16}, 0:4, 0:16])",
                f"        T.writes(C[0:{m}, 0:{n}])",
                *indent(body, 4),
            ]
        )

    def cost(self) -> Cost:
        m, n, k = self.padded
        return Cost(
            macs=m * n * k,
            bytes_read=m * k,
            bytes_written=4 * math.prod((m, n)),
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
