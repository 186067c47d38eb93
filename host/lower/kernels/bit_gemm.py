"""Bit-serial product: AND and popcount of activation planes with weight planes, in 4 x 4 tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit, schedule
from host.lower.kernels.codes import round_up
from host.lower.kernels.integer_product import IntegerProduct
from host.lower.kernels.kernel import Cost
from host.lower.targets import Target

ROW_TILE = 4
COLUMN_TILE = 4
K_BYTES = 16
# What a lane of the sums may reach.
MAX_SUM = 2**16 - 1
# A byte overflows after 31 popcounts of up to 8 bits.
MAX_BYTE_STEPS = 31
# Most that 16 bytes of two planes in common add to a lane: two popcounts of 8 bits.
LANE_BITS = 16


@dataclass(frozen=True)
class _Span:
    """What is added up: a tile's planes, from step `start` on, into 16-bit lanes of `acc`.

    A vector holds 16 bytes of `together` columns: NEON's one, x86-64's all.
    """

    acc: Any
    a: Any
    w: Any
    block: Any
    first: Any
    start: Any
    count: Any
    target: Target

    @property
    def together(self) -> int:
        return columns_together(self.target)

    @property
    def lanes(self) -> int:
        """Bytes of a vector."""
        return K_BYTES * self.together


def columns_together(target: Target) -> int:
    """Return how many columns share a vector."""
    return 1 if target.arch == "aarch64" else COLUMN_TILE


@dataclass(frozen=True)
class BitGemm(IntegerProduct):
    """a [M, A, K bytes], w [N / 4, B, K / 16, 4, 16] planes -> output.

    Activations are unsigned. Weights are two's complement: their top plane counts negative, so its
    complement is counted instead, which is the activations' own sum more. A single plane stands for
    -1 and +1: twice the common bits less that own sum.

    Pairs of planes are taken from the highest power of two down, the sums doubled in between.
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
    def steps(self) -> int:
        """Steps of 16 bytes along a plane."""
        return self.padded_depth // K_BYTES

    def chunk(self, target: Target) -> int:
        """Return the steps after which sums might overflow: in 16 bits, or as bytes before."""
        largest: int = (2**self.act_bits - 1) * (2**self.weight_bits - 1)
        steps = min(self.steps, max(1, MAX_SUM // (LANE_BITS * largest)))
        return steps if columns_together(target) == 1 else min(steps, MAX_BYTE_STEPS)

    @property
    def top(self) -> int:
        """The plane that counts negative; a single one does not."""
        return self.weight_bits - 1 if self.weight_bits > 1 else self.weight_bits

    def prepare(self, a: Any, w: Any, target: Target) -> tuple[Any, Any]:
        """Emit the sum of every row's activations."""
        rows = self.output.rows
        own = T.sblock_alloc_buffer((rows,), "int32")
        planes, steps = emit.hidden(self.act_bits), emit.hidden(self.steps)
        loop = schedule.loop(rows * self.act_bits * self.padded_depth)
        with loop(0, rows) as row, T.sblock("own"):
            T.reads()
            T.writes()
            sums, total = _zeros(1, "int16", 8), _zeros(1, "int32", 4)
            with T.serial(0, planes) as i:
                emit.clear(sums, tirx.const(0, "int16"), 8)
                with T.serial(0, steps) as k:
                    bits = a.vload([row, self.act_bits - 1 - i, k * K_BYTES], "uint8x16")
                    T.buffer_store(sums, sums[0] + _pairs(tirx.popcount(bits), target), [0])
                T.buffer_store(total, total[0] + total[0] + _widen(sums[0], target), [0])
            whole = emit.llvm("vector.reduce.add.v4i32", total[0], dtype="int32")
            T.buffer_store(own, whole, [row])
        return (a, own), w

    def sums(self, a: Any, w: Any, at: tuple[Any, Any, Any], target: Target) -> Any:
        (codes, own), (block, _, first) = a, at
        together = columns_together(target)
        count, lanes = self.pixels * self.tile // together, 4 * together
        acc, totals = emit.registers(count, f"int16x{2 * lanes}"), _zeros(count, "int32", lanes)
        chunk = self.chunk(target)
        steps, most = emit.hidden(self.steps), emit.hidden(chunk)
        with T.serial(0, -(-self.steps // chunk)) as part:
            start = part * chunk
            turns = T.bind(tirx.min(steps - start, most))
            emit.clear(acc, tirx.const(0, "int16"), 2 * lanes)
            self._planes(_Span(acc, codes, w, block, first, start, turns, target))
            for t in range(count):
                T.buffer_store(totals, totals[t] + _widen(acc[t], target), [t])
        if together == 1:
            sums = emit.across(totals, self.pixels, self.tile, target)
        else:
            sums = emit.registers(self.pixels * self.tile, "int32")
            for i in range(self.pixels):
                T.buffer_store(sums, _fours(totals[i]), [tirx.Ramp(i * self.tile, 1, self.tile)])
        return self._signed(sums, own, first)

    def _signed(self, sums: Any, own: Any, first: Any) -> Any:
        """Take the activations' own sum, which complemented and lone planes count too much."""
        single = self.weight_bits == 1
        for i in range(self.pixels):
            extra = own[first + i] << (self.weight_bits - 1)
            place = [tirx.Ramp(i * self.tile, 1, self.tile)]
            value = sums.vload([i * self.tile], f"int32x{self.tile}")
            value = value + value if single else value
            T.buffer_store(sums, value - tirx.Broadcast(extra, self.tile), place)
        return sums

    def _planes(self, span: _Span) -> None:
        """Add the common bits of all pairs of planes."""
        highest = self.act_bits + self.weight_bits - 2
        with T.serial(0, emit.hidden(highest)) as down:
            level = T.bind(highest - down)
            low = T.bind(tirx.max(level - (self.act_bits - 1), 0))
            high = T.bind(tirx.min(level + 1, self.top))
            with T.serial(0, tirx.max(high - low, 0)) as j:
                self._count(span, level - low - j, low + j)
            if self.weight_bits > 1:
                with T.If(level >= self.top), T.Then():
                    self._count(span, level - self.top, self.top, complement=True)
            for t in range(self.pixels * self.tile // span.together):
                T.buffer_store(span.acc, span.acc[t] + span.acc[t], [t])
        self._count(span, 0, 0)

    def _count(self, span: _Span, act_plane: Any, plane: Any, *, complement: bool = False) -> None:
        """Add the common bits of a plane of every row and one, or its complement, of columns.

        NEON adds pairs of bytes to wider lanes in one instruction; elsewhere bytes are added first.
        """
        columns, at_once = self.tile // span.together, span.together == 1
        acc = span.acc if at_once else _zeros(self.pixels * columns, "uint8", span.lanes)
        dtype = f"uint8x{span.lanes}"
        ones = tirx.Broadcast(tirx.const(255, "uint8"), span.lanes)

        def product(row: Any, column: Any) -> Any:
            bits = tirx.popcount(row & column)
            return _pairs(bits, span.target) if at_once else bits

        with T.serial(0, span.count) as k:
            step = span.start + k

            def codes(i: int) -> Any:
                bits = span.a.vload([span.first + i, act_plane, step * K_BYTES], "uint8x16")
                return bits if at_once else _repeated(bits, span.together)

            def weights(j: int) -> Any:
                bits = span.w.vload([span.block, plane, step, j, 0], dtype)
                return bits ^ ones if complement else bits

            emit.accumulate(acc, self.pixels, codes, columns, weights, product)
        for t in range(0 if at_once else self.pixels):
            T.buffer_store(span.acc, span.acc[t] + _pairs(acc[t], span.target), [t])

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


def _zeros(count: int, dtype: str, lanes: int) -> Any:
    buffer = emit.registers(count, f"{dtype}x{lanes}")
    emit.clear(buffer, tirx.const(0, dtype), lanes)
    return buffer


def _pairs(counts: Any, target: Target) -> Any:
    """Return byte counts, each two neighbours added into an int16 lane."""
    if target.arch == "aarch64":
        return emit.llvm("aarch64.neon.uaddlp.v8i16.v16i8", counts, dtype="int16x8")
    return _halves_added(counts, "uint16")


def _widen(sums: Any, target: Target) -> Any:
    """Return int16 lanes, each two neighbours added into an int32 one."""
    if target.arch == "aarch64":
        return emit.llvm("aarch64.neon.uaddlp.v4i32.v8i16", sums, dtype="int32x4")
    return _halves_added(sums, "uint32")


def _halves_added(vector: Any, dtype: str) -> Any:
    """Return pairs of unsigned lanes, seen as one of `dtype`, added; the sums are signed."""
    bits = int(dtype.removeprefix("uint"))
    lanes = int(str(vector.ty).partition("x")[2]) // 2
    pairs = tirx.reinterpret(f"{dtype}x{lanes}", vector)
    low = pairs & tirx.Broadcast(tirx.const(2 ** (bits // 2) - 1, dtype), lanes)
    high = pairs >> tirx.Broadcast(tirx.const(bits // 2, dtype), lanes)
    return (low + high).astype(f"int{bits}x{lanes}")


def _repeated(vector: Any, times: int) -> Any:
    """Return 16 bytes several times over."""
    return tirx.Shuffle([vector] * times, list(range(K_BYTES * times)))


def _fours(vector: Any) -> Any:
    """Return the sum of each four neighbours of sixteen lanes."""
    for lanes in (8, 4):
        whole = T.bind(vector)
        even, odd = (tirx.Shuffle([whole], list(range(i, 2 * lanes, 2))) for i in (0, 1))
        vector = even + odd
    return vector
