"""Building kernels statement by statement: parsing them from text takes a hundred times longer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from host.lower.program import Shape
from host.lower.targets import Target

Parameter = tuple[str, Shape, str]
Vectors = Callable[[int], Any]


def function(parameters: Sequence[Parameter], body: Callable[..., None]) -> tirx.PrimFunc:
    """Return a function of named buffers, the last one its destination; `body` emits it."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        buffers = [T.arg(name, T.Buffer(shape, dtype)) for name, shape, dtype in parameters]
        T.func_attr({"global_symbol": "main", "tirx.noalias": True})
        with T.sblock("kernel"):
            T.reads(*(_whole(buffer) for buffer in buffers[:-1]))
            T.writes(_whole(buffers[-1]))
            body(*buffers)
    return builder.get()


def vectors(count: int, widest: int, body: Callable[[Any, int], None]) -> None:
    """Cover `count` elements: `body(start, lanes)` in a loop of the widest vectors, then a tail."""
    whole = count // widest
    if whole:
        with T.serial(0, whole) as step:
            body(step * widest, widest)
    if rest := count - whole * widest:
        body(whole * widest, rest)


def registers(count: int, dtype: str) -> Any:
    """Allocate what is meant to stay in registers."""
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


def accumulate(
    acc: Any,
    rows: int,
    row: Vectors,
    columns: int,
    column: Vectors,
    product: Callable[[Any, Any], Any],
) -> list[Any]:
    """Add the products of every row with every column to `acc`; return the rows' vectors.

    `row(i)` and `column(j)` load one vector each.
    """
    loaded = [T.bind(column(j)) for j in range(columns)]
    kept = []
    for i in range(rows):
        kept.append(T.bind(row(i)))
        for j, vector in enumerate(loaded):
            t = i * columns + j
            T.buffer_store(acc, acc[t] + product(kept[i], vector), [t])
    return kept


def across(acc: Any, rows: int, columns: int, target: Target) -> Any:
    """Return a buffer [rows * columns] int32 of the vectors of `acc`, each added up."""
    sums = registers(rows * columns, "int32")
    for t in range(0, rows * columns, columns):
        if target.arch == "aarch64" and columns == 4:
            a, b, c, d = (acc[t + j] for j in range(4))
            T.buffer_store(sums, _addp(_addp(a, b), _addp(c, d)), [tirx.Ramp(t, 1, 4)])
            continue
        for j in range(columns):
            lanes = acc.dtype.partition("x")[2]
            total = llvm(f"vector.reduce.add.v{lanes}i32", acc[t + j], dtype="int32")
            T.buffer_store(sums, total, [t + j])
    return sums


def _addp(a: Any, b: Any) -> Any:
    return llvm("aarch64.neon.addp.v4i32", a, b, dtype="int32x4")
