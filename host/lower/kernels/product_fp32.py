"""float32 products in register tiles, emitted: what dense layers and attention share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit
from host.lower.kernels.register_tile import RegisterTile
from host.lower.targets import Target

# Steps of a single row's reduction that are emitted together.
ROW_STEPS = 8


@dataclass(frozen=True)
class Block:
    """Sums that stay in registers: `rows` of `vectors`, each of `lanes` columns."""

    rows: int
    vectors: int
    lanes: int

    @staticmethod
    def of(tile: RegisterTile, target: Target) -> Block:
        """Return the block of a register tile."""
        return Block(tile.pixels, tile.channels // target.fp32_lanes, target.fp32_lanes)

    @property
    def columns(self) -> int:
        """Columns of all vectors."""
        return self.vectors * self.lanes

    @property
    def dtype(self) -> str:
        """Type of a vector."""
        return emit.vector("float32", self.lanes)


Left = Callable[[int, Any], Any]
Right = Callable[[Any, int], Any]


def multiply(block: Block, depth: int, left: Left, right: Right) -> Any:
    """Emit `accumulate`; return a buffer [rows * columns] of the sums, as loops index them."""
    return _stored(accumulate(block, depth, left, right), block)


def accumulate(block: Block, depth: int, left: Left, right: Right) -> Any:
    """Emit sums over k of left(row, k), a scalar, times right(k, vector).

    Return the registers [rows * vectors] that they end in.
    """
    acc = _sums(block.rows * block.vectors, block)
    with T.serial(0, emit.hidden(depth)) as k:
        _step(acc, block, lambda i: left(i, k), lambda v: right(k, v))
    return acc


def multiply_lines(
    block: Block,
    extents: tuple[int, int],
    left: Callable[[int, Any, Any], Any],
    right: Callable[[Any, Any, int], Any],
) -> Any:
    """Emit what `multiply` does over two axes: left(row, tap, k) and right(tap, k, vector)."""
    acc = _sums(block.rows * block.vectors, block)
    lines, depth = (emit.hidden(extent) for extent in extents)
    with T.serial(0, lines) as tap, T.serial(0, depth) as k:
        _step(acc, block, lambda i: left(i, tap, k), lambda v: right(tap, k, v))
    return _stored(acc, block)


def _step(acc: Any, block: Block, left: Callable[[int], Any], right: Callable[[int], Any]) -> None:
    """Emit one step of a reduction: the products of every row and every vector."""
    loaded = [T.bind(right(v)) for v in range(block.vectors)]
    for i in range(block.rows):
        value = T.bind(emit.spread(left(i), block.lanes))
        for v, vector in enumerate(loaded):
            t = i * block.vectors + v
            T.buffer_store(acc, acc[t] + value * vector, [t])


def multiply_row(block: Block, depth: int, x: Any, right: Right, target: Target) -> Any:
    """Emit the product of the row `x` [depth], as `multiply` does for many.

    With few columns several sums of each take turns, to hide the latency of an addition.
    """
    turns = max(1, -(-target.fma_per_cycle * target.fma_latency // block.vectors))
    turns = 1 << min(turns - 1, ROW_STEPS - 1).bit_length()
    acc = _sums(turns * block.vectors, block)

    def steps(start: Any, count: int) -> None:
        for i, value in enumerate(_scalars(x, start, count, target)):
            for v in range(block.vectors):
                t = i % turns * block.vectors + v
                product = emit.spread(value, block.lanes) * right(start + i, v)
                T.buffer_store(acc, acc[t] + product, [t])

    whole = depth // ROW_STEPS
    with T.serial(0, emit.hidden(whole)) as step:
        steps(step * ROW_STEPS, ROW_STEPS)
    steps(whole * ROW_STEPS, depth - whole * ROW_STEPS)
    while turns > 1:
        turns //= 2
        for t in range(turns * block.vectors):
            T.buffer_store(acc, acc[t] + acc[t + turns * block.vectors], [t])
    return _stored(acc, block)


def _scalars(x: Any, start: Any, count: int, target: Target) -> list[Any]:
    """Return neighbours of `x`; NEON multiplies by one lane of a vector, loaded as a whole."""
    lanes = target.fp32_lanes
    if target.arch != "aarch64" or count % lanes:
        return [x[start + i] for i in range(count)]
    loaded = [T.bind(x.vload([start + i], f"float32x{lanes}")) for i in range(0, count, lanes)]
    return [tirx.Shuffle([vector], [i]) for vector in loaded for i in range(lanes)]


def _sums(count: int, block: Block) -> Any:
    acc = emit.registers(count, block.dtype)
    emit.clear(acc, tirx.const(0.0, "float32"), block.lanes)
    return acc


def _stored(acc: Any, block: Block) -> Any:
    """Return the sums in memory, where loops of the epilogue index them."""
    count = block.rows * block.vectors
    out = emit.registers(count * block.lanes, "float32")
    for t in range(count):
        T.buffer_store(out, acc[t], [emit.run(t * block.lanes, block.lanes)])
    return out


def each_row(block: Block, columns: int, body: Callable[[Any, Any], None]) -> None:
    """Emit `body(row, column)` for the first `columns` of every row, in vectors."""
    with T.serial(0, emit.hidden(block.rows)) as row, T.vectorized(0, columns) as column:
        body(row, column)


def whole_or_rest(number: Any, count: int, rest: int, body: Callable[[bool], None]) -> None:
    """Emit `body(False)` for block `number` of `count`, `body(True)` for a last one of `rest`."""
    if not rest or count == 1:
        body(bool(rest))
        return
    with T.If(number < count - 1):
        with T.Then():
            body(False)
        with T.Else():
            body(True)
