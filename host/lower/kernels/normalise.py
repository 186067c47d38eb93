"""Row-wise normalisations: softmax and layer norm over the last axis of [rows, width]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import te, tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit, pointwise, rows
from host.lower.kernels.kernel import Cost, Kernel
from host.lower.kernels.rows import Fold, Walk
from host.lower.program import Shape
from host.lower.targets import Target


def _f(value: float) -> Any:
    return tirx.const(value, "float32")


def _load(buffer: Any, lead: list[Any], start: Any, lanes: int) -> Any:
    return buffer.vload([*lead, start], emit.vector("float32", lanes))


def _store(buffer: Any, row: Any, start: Any, lanes: int, value: Any) -> None:
    T.buffer_store(buffer, value, [row, emit.run(start, lanes)])


@dataclass(frozen=True)
class Softmax(Kernel):
    """x [rows, width] -> exp(x - max) / sum, row by row."""

    kind: ClassVar[str] = "softmax"
    rows: int
    width: int

    @property
    def out_shape(self) -> Shape:
        return (self.rows, self.width)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        def body(x: Any, out: Any) -> None:
            walk = Walk(self.width, target.fp32_lanes)
            rows.each(self.rows, self.width, lambda row: _softmax_row(walk, x, out, row))

        parameters = [(name, self.out_shape, "float32") for name in ("x", "out")]
        return emit.function(parameters, body)

    def cost(self) -> Cost:
        elements = self.rows * self.width
        return Cost(ops=elements * 18, bytes_read=4 * elements, bytes_written=4 * elements)


def _softmax_row(walk: Walk, x: Any, out: Any, row: Any) -> None:
    """Emit three passes: the maximum; powers, kept in the destination; their share of the sum."""
    top = Fold(walk, rows.largest, te.min_value("float32"))
    walk.all(lambda start, lanes, seen: top.add(_load(x, [row], start, lanes), lanes, 0))
    most = top.result()
    total = Fold(walk, rows.total, _f(0.0))

    def power(start: Any, lanes: int, seen: int) -> None:
        below = _load(x, [row], start, lanes) - emit.spread(most, lanes)
        value = T.bind(pointwise.exp_of_negative(below))
        _store(out, row, start, lanes, value)
        total.add(value, lanes, seen)

    walk.all(power)
    inverse = T.bind(_f(1.0) / total.result())
    # Read before the main loop scales what the last vector shares with it.
    kept: list[Any] = []
    walk.rest(lambda start, lanes, seen: kept.append(T.bind(_load(out, [row], start, lanes))))

    def scale(start: Any, lanes: int, seen: int) -> None:
        value = kept.pop(0) if lanes == walk.lanes else _load(out, [row], start, lanes)
        _store(out, row, start, lanes, value * emit.spread(inverse, lanes))

    walk.all(scale)


@dataclass(frozen=True)
class LayerNorm(Kernel):
    """x [rows, width], gain [width], shift [width] -> [rows, width]."""

    kind: ClassVar[str] = "layer_norm"
    rows: int
    width: int
    eps: float

    @property
    def out_shape(self) -> Shape:
        return (self.rows, self.width)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        def body(*buffers: Any) -> None:
            walk = Walk(self.width, target.fp32_lanes)
            rows.each(self.rows, self.width, lambda row: self._row(walk, buffers, row))

        terms = [(name, (self.width,), "float32") for name in ("gain", "shift")]
        x, out = ((name, self.out_shape, "float32") for name in ("x", "out"))
        return emit.function([x, *terms, out], body)

    def _row(self, walk: Walk, buffers: tuple[Any, ...], row: Any) -> None:
        """Emit three passes: the mean; the mean square of what differs from it; the result."""
        x, gain, shift, out = buffers
        share = _f(1.0 / self.width)
        total = Fold(walk, rows.total, _f(0.0))
        walk.all(lambda start, lanes, seen: total.add(_load(x, [row], start, lanes), lanes, seen))
        mean = T.bind(total.result() * share)
        squares = Fold(walk, rows.total, _f(0.0))

        def centred(start: Any, lanes: int) -> Any:
            return T.bind(_load(x, [row], start, lanes) - emit.spread(mean, lanes))

        def square(start: Any, lanes: int, seen: int) -> None:
            value = centred(start, lanes)
            squares.add(value * value, lanes, seen)

        walk.all(square)
        scale = T.bind(_f(1.0) / tirx.sqrt(squares.result() * share + _f(self.eps)))

        def result(start: Any, lanes: int, seen: int) -> None:
            value = centred(start, lanes) * emit.spread(scale, lanes)
            value = value * _load(gain, [], start, lanes) + _load(shift, [], start, lanes)
            _store(out, row, start, lanes, value)

        walk.all(result)

    def cost(self) -> Cost:
        elements = self.rows * self.width
        return Cost(
            ops=6 * elements,
            bytes_read=4 * elements,
            bytes_written=4 * elements,
            weight_bytes=8 * self.width,
        )
