"""Bit-serial product: AND and popcount of activation planes with weight planes, in 4 x 4 tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from host.lower.kernels.im2col import round_up
from host.lower.kernels.kernel import Cost, Kernel
from host.lower.kernels.tvmscript import indent, llvm, parse
from host.lower.program import Shape
from host.lower.targets import Target

ROW_TILE = 4
COLUMN_TILE = 4
K_BYTES = 16
# A byte of the accumulator overflows after 31 popcounts of up to 8 bits.
MAX_CHUNK = 31


@dataclass(frozen=True)
class BitGemm(Kernel):
    """a [M, A, K bytes], w [N / 4, B, K / 16, 4, 16] planes -> [M, N] int32.

    Activations are unsigned. Weights are two's complement, so their top plane counts negative;
    a single plane stands for -1 and +1: twice the common bits less the activations' own sum.
    """

    kind: ClassVar[str] = "bit_gemm"
    dtype: ClassVar[str] = "int32"
    rows: int
    columns: int
    depth_bytes: int
    weight_bits: int
    act_bits: int

    @property
    def padded(self) -> tuple[int, int, int]:
        return (
            round_up(self.rows, ROW_TILE),
            round_up(self.columns, COLUMN_TILE),
            round_up(self.depth_bytes, K_BYTES),
        )

    @property
    def out_shape(self) -> Shape:
        return self.padded[:2]

    @property
    def chunk(self) -> int:
        """Steps of 16 bytes between two flushes of the byte accumulators."""
        return max(d for d in range(1, MAX_CHUNK + 1) if self.padded[2] // K_BYTES % d == 0)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        m, n, depth = self.padded
        steps = depth // K_BYTES
        signed = self.weight_bits > 1
        inner = self._inner(signed)
        accumulators = 16 if signed else 20
        body = [
            f"acc = T.sblock_alloc_buffer(({accumulators},), 'uint8x16', scope='local')",
            "tot = T.sblock_alloc_buffer((16,), 'int32x4', scope='local')",
            *(f"tot[{t}] = T.broadcast(T.int32(0), 4)" for t in range(16)),
            f"for p in range({self.act_bits * self.weight_bits * (steps // self.chunk)}):",
            *indent(self._plane(signed, inner, accumulators, target), 1),
            *(
                f"C[mo * 4 + {t // 4}, no * 4 + {t % 4}] = "
                + llvm("vector.reduce.add.v4i32", f"tot[{t}]", dtype="int32")
                for t in range(16)
            ),
        ]
        planes = f"{n // 4}, {self.weight_bits}, {steps}, 4, 16"
        ranges = ", ".join(f"0:{e}" for e in (n // 4, self.weight_bits, steps, 4, 16))
        return parse(
            [
                "@T.prim_func(s_tir=True)",
                f"def main(A: T.Buffer(({m}, {self.act_bits}, {depth}), 'uint8'), "
                f"W: T.Buffer(({planes}), 'uint8'), C: T.Buffer(({m}, {n}), 'int32')):",
                "  T.func_attr({'global_symbol': 'main', 'tirx.noalias': True})",
                f"  for mo in T.parallel({m // 4}):",
                f"    for no in range({n // 4}):",
                "      with T.sblock('b'):",
                f"        T.reads(A[0:{m}, 0:{self.act_bits}, 0:{depth}], W[{ranges}])",
                f"        T.writes(C[0:{m}, 0:{n}])",
                *indent(body, 4),
            ]
        )

    def _plane(
        self, signed: bool, inner: list[str], accumulators: int, target: Target
    ) -> list[str]:
        """Return the loop body of one pair of planes over one chunk of K."""
        chunks = self.padded[2] // K_BYTES // self.chunk
        weight = f"p // {chunks} % {self.weight_bits}"
        shift = f"{weight} + p // {chunks * self.weight_bits}"
        sign = f"T.if_then_else({weight} == {self.weight_bits - 1}, T.int32(-1), T.int32(1))"
        scale = f"T.shift_left({sign if signed else 'T.int32(1)'}, {shift})"
        flush = []
        for t in range(16):
            total = _widen(f"acc[{t}]", target)
            if not signed:
                total = f"({total} * T.broadcast(2, 4) - {_widen(f'acc[{16 + t // 4}]', target)})"
            flush.append(f"tot[{t}] = tot[{t}] + {total} * T.broadcast(sc, 4)")
        return [
            f"sc: T.let = {scale}",
            *(f"acc[{t}] = T.broadcast(T.uint8(0), 16)" for t in range(accumulators)),
            f"for k in range({self.chunk}):",
            *indent(inner, 1),
            *flush,
        ]

    def _inner(self, signed: bool) -> list[str]:
        chunks = self.padded[2] // K_BYTES // self.chunk
        step = f"p % {chunks} * {self.chunk} + k"
        weight = f"p // {chunks} % {self.weight_bits}"
        act = f"p // {chunks * self.weight_bits}"
        lines = [
            f"w{j}: T.let = W.vload([no, {weight}, {step}, {j}, 0], 'uint8x16')" for j in range(4)
        ]
        for i in range(ROW_TILE):
            lines.append(f"a{i}: T.let = A.vload([mo * 4 + {i}, {act}, ({step}) * 16], 'uint8x16')")
            lines += [
                f"acc[{i * 4 + j}] = acc[{i * 4 + j}] + T.popcount(T.bitwise_and(a{i}, w{j}))"
                for j in range(COLUMN_TILE)
            ]
            if not signed:
                lines.append(f"acc[{16 + i}] = acc[{16 + i}] + T.popcount(a{i})")
        return lines

    def cost(self) -> Cost:
        m, n, depth = self.padded
        return Cost(
            macs=m * n * depth * 8,
            bytes_read=m * self.act_bits * depth,
            bytes_written=4 * math.prod((m, n)),
            weight_bytes=n * self.weight_bits * depth,
        )


def _widen(accumulator: str, target: Target) -> str:
    """Return sixteen byte counts added into four int32 lanes."""
    if target.arch == "aarch64":
        pairs = llvm("aarch64.neon.uaddlp.v8i16.v16i8", accumulator, dtype="int16x8")
        return llvm("aarch64.neon.uaddlp.v4i32.v8i16", pairs, dtype="int32x4")
    sums = llvm("x86.sse2.psad.bw", accumulator, "T.broadcast(T.uint8(0), 16)", dtype="int64x2")
    return f"T.reinterpret({sums}, dtype='int32x4')"
