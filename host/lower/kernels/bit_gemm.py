"""Bit-serial product: AND and popcount of activation planes with weight planes, in 4 x 4 tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit
from host.lower.kernels.codes import round_up
from host.lower.kernels.integer_product import IntegerProduct
from host.lower.kernels.kernel import Cost
from host.lower.targets import Target

ROW_TILE = 4
COLUMN_TILE = 4
K_BYTES = 16
# A byte of the accumulator overflows after 31 popcounts of up to 8 bits.
MAX_CHUNK = 31


@dataclass(frozen=True)
class BitGemm(IntegerProduct):
    """a [M, A, K bytes], w [N / 4, B, K / 16, 4, 16] planes -> output.

    Activations are unsigned. Weights are two's complement, so their top plane counts negative;
    a single plane stands for -1 and +1: twice the common bits less the activations' own sum.
    """

    kind: ClassVar[str] = "bit_gemm"
    depth: int
    weight_bits: int
    act_bits: int

    @property
    def line(self) -> int:
        return self.output.rows

    @property
    def padded_depth(self) -> int:
        """Bytes of a plane of one row, as executed."""
        return round_up(self.depth, K_BYTES)

    @property
    def operand_parameters(self) -> list[emit.Parameter]:
        """Codes and weights."""
        steps = self.padded_depth // K_BYTES
        weights = (self.blocks, self.weight_bits, steps, self.tile, K_BYTES)
        codes = (self.output.rows, self.act_bits, self.padded_depth)
        return [("a", codes, "uint8"), ("w", weights, "uint8")]

    @property
    def chunk(self) -> int:
        """Steps of 16 bytes between two flushes of the byte accumulators."""
        steps = self.padded_depth // K_BYTES
        return max(d for d in range(1, MAX_CHUNK + 1) if steps % d == 0)

    @property
    def chunks(self) -> int:
        """Flushes of a pair of planes."""
        return self.padded_depth // K_BYTES // self.chunk

    @property
    def signed(self) -> bool:
        """Whether weights are two's complement."""
        return self.weight_bits > 1

    def sums(self, a: Any, w: Any, at: tuple[Any, Any, Any], target: Target) -> Any:
        tiles = self.pixels * self.tile
        acc = emit.registers(tiles if self.signed else tiles + self.pixels, "uint8x16")
        totals = emit.registers(tiles, "int32x4")
        emit.clear(totals, tirx.const(0, "int32"), 4)
        with T.serial(0, self.act_bits * self.weight_bits * self.chunks) as p:
            plane, act_plane = (
                p // self.chunks % self.weight_bits,
                p // (self.chunks * self.weight_bits),
            )
            scale = T.bind(self._scale(plane, act_plane))
            emit.clear(acc, tirx.const(0, "uint8"), K_BYTES)
            with T.serial(0, self.chunk) as k:
                step = p % self.chunks * self.chunk + k
                self._count(acc, (a, act_plane), (w, plane), step, at)
            self._flush(totals, acc, scale, target)
        return emit.across(totals, self.pixels, self.tile, target)

    def _scale(self, plane: Any, act_plane: Any) -> Any:
        """Return the power of two of a pair of planes, negative for a top plane of weights."""
        one: Any = tirx.const(1, "int32")
        if self.signed:
            top = plane == self.weight_bits - 1
            one = tirx.if_then_else(top, tirx.const(-1, "int32"), one)
        return one << (plane + act_plane)

    def _count(
        self, acc: Any, a: tuple[Any, Any], w: tuple[Any, Any], step: Any, at: tuple[Any, Any, Any]
    ) -> None:
        """Add the common bits of 16 bytes of every row and column, and a lone plane's own bits."""
        vector = f"uint8x{K_BYTES}"
        block, _, first = at
        rows = emit.accumulate(
            acc,
            self.pixels,
            lambda i: a[0].vload([first + i, a[1], step * K_BYTES], vector),
            self.tile,
            lambda j: w[0].vload([block, w[1], step, j, 0], vector),
            lambda row, column: tirx.popcount(row & column),
        )
        if not self.signed:
            own = self.pixels * self.tile
            for i, row in enumerate(rows):
                T.buffer_store(acc, acc[own + i] + tirx.popcount(row), [own + i])

    def _flush(self, totals: Any, acc: Any, scale: Any, target: Target) -> None:
        """Add the byte counts to the totals before they overflow."""
        tiles = self.pixels * self.tile
        for t in range(tiles):
            count = _widen(acc[t], target)
            if not self.signed:
                own = _widen(acc[tiles + t // self.tile], target)
                count = count * tirx.Broadcast(tirx.const(2, "int32"), 4) - own
            T.buffer_store(totals, totals[t] + count * tirx.Broadcast(scale, 4), [t])

    def cost(self) -> Cost:
        columns = self.blocks * self.tile
        rest = self.output.cost()
        planes = self.output.rows * self.act_bits * self.padded_depth
        return Cost(
            macs=self.output.rows * columns * self.padded_depth * 8,
            ops=rest.ops,
            bytes_read=rest.bytes_read + planes,
            bytes_written=rest.bytes_written,
            weight_bytes=rest.weight_bytes + columns * self.weight_bits * self.padded_depth,
        )


def _widen(counts: Any, target: Target) -> Any:
    """Return sixteen byte counts added into four int32 lanes."""
    if target.arch == "aarch64":
        pairs = emit.llvm("aarch64.neon.uaddlp.v8i16.v16i8", counts, dtype="int16x8")
        return emit.llvm("aarch64.neon.uaddlp.v4i32.v8i16", pairs, dtype="int32x4")
    zero = tirx.Broadcast(tirx.const(0, "uint8"), K_BYTES)
    sums = emit.llvm("x86.sse2.psad.bw", counts, zero, dtype="int64x2")
    return tirx.reinterpret("int32x4", sums)
