"""What the int8 and the bit-serial product share: 4 x 4 tiles, padding, and the frame of loops.

Built statement by statement: parsing the same kernels from text takes a hundred times longer.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from host.lower.kernels.im2col import round_up
from host.lower.kernels.kernel import Kernel
from host.lower.program import Shape
from host.lower.targets import Target

ROW_TILE = 4
COLUMN_TILE = 4
TILES = ROW_TILE * COLUMN_TILE
Vectors = Callable[[int], Any]
Product = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class IntegerGemm(Kernel):
    """a [M, ...] times packed w [N / 4, ...] -> [M, N] int32; `depth` bytes of K per row."""

    dtype: ClassVar[str] = "int32"
    depth_tile: ClassVar[int] = 16
    rows: int
    columns: int
    depth: int

    @property
    def padded(self) -> tuple[int, int, int]:
        """Rows, columns and depth as executed."""
        return (
            round_up(self.rows, ROW_TILE),
            round_up(self.columns, COLUMN_TILE),
            round_up(self.depth, self.depth_tile),
        )

    @property
    def out_shape(self) -> Shape:
        return self.padded[:2]

    @property
    @abstractmethod
    def operand_shapes(self) -> tuple[Shape, Shape, str]:
        """Shapes of a and w, and their element type."""

    @abstractmethod
    def tile(self, a: Any, w: Any, store: Any, at: tuple[Any, Any], target: Target) -> None:
        """Emit one tile, rows `at[0]` and columns `at[1]`; `store(totals)` writes its results."""

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        m, n, _ = self.padded
        a_shape, w_shape, dtype = self.operand_shapes
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name("main")
            a = T.arg("A", T.Buffer(a_shape, dtype))
            w = T.arg("W", T.Buffer(w_shape, dtype))
            c = T.arg("C", T.Buffer((m, n), "int32"))
            T.func_attr({"global_symbol": "main", "tirx.noalias": True})
            with (
                T.parallel(0, m // ROW_TILE) as mo,
                T.serial(0, n // COLUMN_TILE) as no,
                T.sblock("tile"),
            ):
                T.reads(_whole(a), _whole(w))
                T.writes(_whole(c))

                def store(totals: Any, lanes: int) -> None:
                    for t in range(TILES):
                        total = llvm(f"vector.reduce.add.v{lanes}i32", totals[t], dtype="int32")
                        row, column = divmod(t, COLUMN_TILE)
                        T.buffer_store(c, total, [mo * ROW_TILE + row, no * COLUMN_TILE + column])

                self.tile(a, w, store, (mo, no), target)
        return builder.get()


def accumulate(acc: Any, rows: Vectors, columns: Vectors, product: Product) -> list[Any]:
    """Add the products of every row with every column to a tile; return the rows' vectors.

    `rows(i)` and `columns(j)` load one vector each.
    """
    loaded = [T.bind(columns(j)) for j in range(COLUMN_TILE)]
    kept = []
    for i in range(ROW_TILE):
        kept.append(T.bind(rows(i)))
        for j, column in enumerate(loaded):
            t = i * COLUMN_TILE + j
            T.buffer_store(acc, acc[t] + product(kept[i], column), [t])
    return kept


def registers(count: int, dtype: str) -> Any:
    """Allocate vector registers."""
    return T.sblock_alloc_buffer((count,), dtype, scope="local")


def clear(buffer: Any, value: Any, lanes: int) -> None:
    """Set all vectors of a buffer to copies of a scalar."""
    for i in range(int(buffer.shape[0])):
        T.buffer_store(buffer, tirx.Broadcast(value, lanes), [i])


def llvm(name: str, *args: Any, dtype: str) -> Any:
    """Return the call of an LLVM intrinsic."""
    return tirx.call_llvm_pure_intrin(dtype, f"llvm.{name}", *args)


def _whole(buffer: Any) -> Any:
    return buffer[tuple(slice(0, int(extent)) for extent in buffer.shape)]
