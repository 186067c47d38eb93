"""What the int8 and the bit-serial product share: 4 x 4 tiles, padding, and their script."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from host.lower.kernels.im2col import round_up
from host.lower.kernels.kernel import Kernel
from host.lower.kernels.tvmscript import indent, llvm, parse
from host.lower.program import Shape
from host.lower.targets import Target

ROW_TILE = 4
COLUMN_TILE = 4
TILES = ROW_TILE * COLUMN_TILE


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
    def body(self, target: Target) -> list[str]:
        """Return the script of one tile: rows mo, columns no."""

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        m, n, _ = self.padded
        a, w, dtype = self.operand_shapes
        return parse(
            [
                "@T.prim_func(s_tir=True)",
                f"def main(A: T.Buffer({a}, '{dtype}'), W: T.Buffer({w}, '{dtype}'), "
                f"C: T.Buffer(({m}, {n}), 'int32')):",
                "  T.func_attr({'global_symbol': 'main', 'tirx.noalias': True})",
                f"  for mo in T.parallel({m // ROW_TILE}):",
                f"    for no in range({n // COLUMN_TILE}):",
                "      with T.sblock('b'):",
                f"        T.reads(A[{_ranges(a)}], W[{_ranges(w)}])",
                f"        T.writes(C[0:{m}, 0:{n}])",
                *indent(self.body(target), 4),
            ]
        )


def store_tiles(name: str, lanes: int) -> list[str]:
    """Return the lines that add each accumulator's lanes into its element of C."""
    return [
        f"C[mo * 4 + {t // 4}, no * 4 + {t % 4}] = "
        + llvm(f"vector.reduce.add.v{lanes}i32", f"{name}[{t}]", dtype="int32")
        for t in range(TILES)
    ]


def _ranges(shape: Shape) -> str:
    return ", ".join(f"0:{extent}" for extent in shape)
