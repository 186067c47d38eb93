"""Bit-serial product: AND and popcount of activation planes with weight planes, in 4 x 4 tiles."""

from __future__ import annotations

from dataclasses import dataclass
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

K_BYTES = IntegerGemm.depth_tile
# A byte of the accumulator overflows after 31 popcounts of up to 8 bits.
MAX_CHUNK = 31


@dataclass(frozen=True)
class BitGemm(IntegerGemm):
    """a [M, A, K bytes], w [N / 4, B, K / 16, 4, 16] planes -> [M, N] int32.

    Activations are unsigned. Weights are two's complement, so their top plane counts negative;
    a single plane stands for -1 and +1: twice the common bits less the activations' own sum.
    """

    kind: ClassVar[str] = "bit_gemm"
    weight_bits: int
    act_bits: int

    @property
    def operand_shapes(self) -> tuple[Shape, Shape, str]:
        """Shapes of a and w, and their element type."""
        m, n, depth = self.padded
        w = (n // COLUMN_TILE, self.weight_bits, depth // K_BYTES, COLUMN_TILE, K_BYTES)
        return (m, self.act_bits, depth), w, "uint8"

    @property
    def chunk(self) -> int:
        """Steps of 16 bytes between two flushes of the byte accumulators."""
        return max(d for d in range(1, MAX_CHUNK + 1) if self.padded[2] // K_BYTES % d == 0)

    @property
    def chunks(self) -> int:
        """Flushes of a pair of planes."""
        return self.padded[2] // K_BYTES // self.chunk

    @property
    def signed(self) -> bool:
        """Whether weights are two's complement."""
        return self.weight_bits > 1

    def tile(self, a: Any, w: Any, store: Any, at: tuple[Any, Any], target: Target) -> None:
        acc = registers(TILES if self.signed else TILES + ROW_TILE, "uint8x16")
        totals = registers(TILES, "int32x4")
        clear(totals, tirx.const(0, "int32"), 4)
        with T.serial(0, self.act_bits * self.weight_bits * self.chunks) as p:
            plane, act_plane = (
                p // self.chunks % self.weight_bits,
                p // (self.chunks * self.weight_bits),
            )
            scale = T.bind(self._scale(plane, act_plane))
            clear(acc, tirx.const(0, "uint8"), K_BYTES)
            with T.serial(0, self.chunk) as k:
                step = p % self.chunks * self.chunk + k
                self._count(acc, (a, act_plane), (w, plane), step, at)
            self._flush(totals, acc, scale, target)
        store(totals, 4)

    def _scale(self, plane: Any, act_plane: Any) -> Any:
        """Return the power of two of a pair of planes, negative for a top plane of weights."""
        one: Any = tirx.const(1, "int32")
        if self.signed:
            top = plane == self.weight_bits - 1
            one = tirx.if_then_else(top, tirx.const(-1, "int32"), one)
        return one << (plane + act_plane)

    def _count(
        self, acc: Any, a: tuple[Any, Any], w: tuple[Any, Any], step: Any, at: tuple[Any, Any]
    ) -> None:
        """Add the common bits of 16 bytes of every row and column, and a lone plane's own bits."""
        vector = f"uint8x{K_BYTES}"
        rows = accumulate(
            acc,
            lambda i: a[0].vload([at[0] * ROW_TILE + i, a[1], step * K_BYTES], vector),
            lambda j: w[0].vload([at[1], w[1], step, j, 0], vector),
            lambda row, column: tirx.popcount(row & column),
        )
        if not self.signed:
            for i, row in enumerate(rows):
                T.buffer_store(acc, acc[TILES + i] + tirx.popcount(row), [TILES + i])

    def _flush(self, totals: Any, acc: Any, scale: Any, target: Target) -> None:
        """Add the byte counts to the totals before they overflow."""
        for t in range(TILES):
            count = _widen(acc[t], target)
            if not self.signed:
                own = _widen(acc[TILES + t // COLUMN_TILE], target)
                count = count * tirx.Broadcast(tirx.const(2, "int32"), 4) - own
            T.buffer_store(totals, totals[t] + count * tirx.Broadcast(scale, 4), [t])

    def cost(self) -> Cost:
        m, n, depth = self.padded
        return Cost(
            macs=m * n * depth * 8,
            bytes_read=m * self.act_bits * depth,
            bytes_written=4 * m * n,
            weight_bytes=n * self.weight_bits * depth,
        )


def _widen(counts: Any, target: Target) -> Any:
    """Return sixteen byte counts added into four int32 lanes."""
    if target.arch == "aarch64":
        pairs = llvm("aarch64.neon.uaddlp.v8i16.v16i8", counts, dtype="int16x8")
        return llvm("aarch64.neon.uaddlp.v4i32.v8i16", pairs, dtype="int32x4")
    zero = tirx.Broadcast(tirx.const(0, "uint8"), K_BYTES)
    sums = llvm("x86.sse2.psad.bw", counts, zero, dtype="int64x2")
    return tirx.reinterpret("int32x4", sums)
