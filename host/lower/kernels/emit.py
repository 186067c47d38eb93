"""Building kernels statement by statement: parsing them from text takes a hundred times longer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from host.lower.program import Shape
from host.lower.targets import Target

Parameter = tuple[str, Shape, str]
Vectors = Callable[[int], Any]
# Of the function that is being emitted: read once at its entry, so that no loop has to.
_ZERO: ContextVar[Any] = ContextVar("zero")
AVX512_LANES = 16


def function(parameters: Sequence[Parameter], body: Callable[..., None]) -> tirx.PrimFunc:
    """Return a function of named buffers, the last one its destination; `body` emits it."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        buffers = [T.arg(name, T.Buffer(shape, dtype)) for name, shape, dtype in parameters]
        T.func_attr({"global_symbol": "main", "tirx.noalias": True})
        with T.sblock("kernel"):
            T.reads(*(_whole(buffer) for buffer in buffers[:-1]))
            T.writes(_whole(buffers[-1]))
            within = _ZERO.set(_unknown_zero())
            try:
                body(*buffers)
            finally:
                _ZERO.reset(within)
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
    # Else the lowering asks the runtime for memory, by a call for every tile.
    on_stack = {"disable_lower_builtin": True}
    return T.alloc_buffer((count,), dtype, scope="local", annotations=on_stack)


def hidden(number: Any) -> Any:
    """Return a number that LLVM cannot know: that of a loop which is to stay rolled.

    Unrolled whole, it may need more registers than there are.
    """
    return T.bind(_ZERO.get() + number)


def _unknown_zero() -> Any:
    """Return what LLVM must read from memory to know that it is zero."""
    flags = {"disable_lower_builtin": True, "tirx.volatile": True}
    memory = T.alloc_buffer((1,), "int32", scope="local", annotations=flags)
    T.buffer_store(memory, tirx.const(0, "int32"), [0])
    return T.bind(memory[0])


def clear(buffer: Any, value: Any, lanes: int) -> None:
    """Set all vectors of a buffer to copies of a scalar."""
    for i in range(int(buffer.shape[0])):
        T.buffer_store(buffer, spread(value, lanes), [i])


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
    count = rows * columns
    if target.arch != "aarch64":
        sums = registers(count, "int32")
        lanes = acc.dtype.partition("x")[2]
        for t in range(count):
            total = llvm(f"vector.reduce.add.v{lanes}i32", acc[t], dtype="int32")
            T.buffer_store(sums, total, [t])
        return sums
    sums = registers(-(-count // 4) * 4, "int32")
    for t in range(0, count, 4):
        a, b, c, d = (acc[min(t + j, count - 1)] for j in range(4))
        T.buffer_store(sums, _addp(_addp(a, b), _addp(c, d)), [tirx.Ramp(t, 1, 4)])
    return sums


def store_bytes(
    out: Any, at: Any, count: int, value: Callable[[int, int], Any], target: Target
) -> None:
    """Store `count` bytes from index `at` on; `value(i, lanes)` is an int32 vector from i on.

    AVX-512's store that narrows as it writes is microcode on some processors, and LLVM takes it
    wherever it can: there vectors are packed in registers instead.
    """
    lanes = AVX512_LANES
    if target.fp32_lanes != lanes or count % lanes:
        T.buffer_store(out, value(0, count).astype(vector(out.dtype, count)), [run(at, count)])
        return
    together = next(n for n in (4, 2, 1) if count // lanes % n == 0)
    for start in range(0, count, together * lanes):
        vectors = [value(start + i * lanes, lanes) for i in range(together)]
        T.buffer_store(out, _packed(vectors, out.dtype), [run(at + start, together * lanes)])


def rounded(value: Any) -> Any:
    """Return sixteen floats as int32, rounded half to even; too small ones become the least."""
    nothing = spread(tirx.const(0, "int32"), AVX512_LANES)
    lanes, mode = tirx.const(-1, "int16"), tirx.const(4, "int32")  # all; as the thread rounds
    dtype = f"int32x{AVX512_LANES}"
    return llvm("x86.avx512.mask.cvtps2dq.512", value, nothing, lanes, mode, dtype=dtype)


def interleave(vectors: Sequence[Any], lanes: int) -> list[Any]:
    """Return as many vectors, whose lanes in a row are those of all `vectors` in turn.

    As many vectors as lanes are so transposed; their number is a power of two.
    """
    found, half = list(vectors), len(vectors) // 2
    low = [i // 2 + i % 2 * lanes for i in range(lanes)]
    orders = (low, [i + lanes // 2 for i in low])
    for _ in range(half.bit_length()):
        found = [
            T.bind(tirx.Shuffle([found[i], found[i + half]], order))
            for i in range(half)
            for order in orders
        ]
    return found


def vector(dtype: str, lanes: int) -> str:
    """Return the type of a vector, or of its element where there is one."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def run(start: Any, lanes: int) -> Any:
    """Return the indices of neighbours from `start` on."""
    return start if lanes == 1 else tirx.Ramp(start, 1, lanes)


def spread(value: Any, lanes: int) -> Any:
    """Return a vector of copies of a scalar."""
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


def _packed(vectors: list[Any], dtype: str) -> Any:
    """Return 1, 2 or 4 vectors of sixteen int32 as one vector of bytes."""
    a, b, c, d = (vectors * 4)[:4]
    words = [llvm("x86.avx512.packssdw.512", x, y, dtype="int16x32") for x, y in ((a, b), (c, d))]
    quads = llvm("x86.avx512.packuswb.512", *words, dtype="int8x64")
    order = [tirx.const(4 * (i % 4) + i // 4, "int32") for i in range(AVX512_LANES)]
    places = tirx.Shuffle(order, list(range(AVX512_LANES)))
    quads = tirx.reinterpret(f"int32x{AVX512_LANES}", quads)
    ordered = llvm("x86.avx512.permvar.si.512", quads, places, dtype=f"int32x{AVX512_LANES}")
    packed = tirx.reinterpret(f"{dtype}x{4 * AVX512_LANES}", ordered)
    for share in (2, 1):
        if len(vectors) <= share:
            packed = tirx.vectorlow(f"{dtype}x{share * AVX512_LANES}", packed)
    return packed


def _addp(a: Any, b: Any) -> Any:
    return llvm("aarch64.neon.addp.v4i32", a, b, dtype="int32x4")
