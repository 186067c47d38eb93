"""What integer products share: the grid of register tiles, and how sums become the layer's result.

Every product takes codes, packed weights and these tables, in this order: correction [O] int32,
scale [O] and bias [O] float32, the quantizer [inverse scale, zero point] of the codes that it
writes (only where it writes codes), operands, and `reveal` [1] int32. A sum becomes

    y = (sum + correction) * scale + bias, then pointwise steps

and is stored as float32 or, where one integer layer alone reads it, as that layer's codes. With
`reveal` above 0 the same program stores its integers instead, for verification: sum + correction,
as bits in float32 destinations and as byte number `reveal` in those of codes.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit, pointwise
from host.lower.kernels.codes import Codes
from host.lower.kernels.kernel import Accessor, Cost, Kernel, logical
from host.lower.program import Shape, Step
from host.lower.targets import Target
from host.lower.views import physical

CODES_OF_A_VECTOR = 4


@dataclass(frozen=True)
class Output:
    """What is made of the sums: a tensor of `shape` stored in `order`, or `codes` of it.

    Channels are the last stored axis; the others, flattened, are the rows of the product.
    """

    shape: Shape
    order: tuple[int, ...]
    operands: tuple[Accessor, ...] = ()
    post: tuple[Step, ...] = ()
    codes: Codes | None = None

    @property
    def stored(self) -> Shape:
        """Stored shape of the tensor."""
        return physical(self.shape, self.order)

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.stored[-1]

    @property
    def rows(self) -> int:
        """Pixels or tokens."""
        return math.prod(self.stored[:-1])

    @property
    def destination(self) -> emit.Parameter:
        """The parameter that is written."""
        if self.codes:
            return ("out", self.codes.shape, self.codes.dtype)
        return ("out", self.stored, "float32")

    def parameters(self) -> list[emit.Parameter]:
        """Return all parameters but codes and weights, the destination last."""
        tables = [
            ("correction", (self.channels,), "int32"),
            ("scale", (self.channels,), "float32"),
            ("bias", (self.channels,), "float32"),
        ]
        quantizer = [("quantizer", (2,), "float32")] if self.codes else []
        operands = [(f"r{i}", a.shape, "float32") for i, a in enumerate(self.operands)]
        return [*tables, *quantizer, *operands, ("reveal", (1,), "int32"), self.destination]

    def cost(self) -> Cost:
        """Return what it adds to the product's."""
        elements = math.prod(self.shape)
        written = self.codes.count if self.codes else 4 * elements
        return Cost(
            ops=elements * (4 + pointwise.ops(self.post) + (5 if self.codes else 0)),
            bytes_read=4 * sum(a.elements for a in self.operands),
            bytes_written=written,
            weight_bytes=12 * self.channels,
        )


class Writer:
    """Emits the stores of one function's sums."""

    def __init__(self, output: Output, buffers: tuple[Any, ...], target: Target) -> None:
        self._output = output
        self._target = target
        self._correction, self._scale, self._bias, *rest = buffers
        self._table: Any = rest.pop(0) if output.codes else None
        self._quantizer: list[Any] = []
        *self._operands, self._reveal, self._out = rest

    def begin(self) -> None:
        """Emit what comes before all sums."""
        if self._output.codes:
            self._output.codes.fill(self._out, self._table)

    def begin_tile(self) -> None:
        """Load once what a compiler reads again after every store, which might change it."""
        if self._output.codes:
            self._quantizer = [T.bind(self._table[i]) for i in range(2)]

    def write(self, sums: Any, first: int, row: Any, channel: Any, lanes: int) -> None:
        """Store `sums[first:first + lanes]`, neighbouring channels of one row."""
        output, codes = self._output, self._output.codes
        values = emit.registers(lanes, "float32")
        with T.vectorized(0, lanes) as lane:
            o = channel + lane
            index = logical((*self._leading(row), o), output.order)
            value = pointwise.apply(
                (sums[first + lane] + self._correction[o]).astype("float32") * self._scale[o]
                + self._bias[o],
                output.post,
                lambda k: output.operands[k].read(self._operands[k], index),
            )
            T.buffer_store(values, value, [lane])

        def integers(start: int, count: int) -> Any:
            dtype = emit.vector("int32", count)
            return sums.vload([first + start], dtype) + self._correction.vload(
                [channel + start], dtype
            )

        revealing = self._reveal[0] != 0
        if codes is None:
            bits = tirx.reinterpret(emit.vector("float32", lanes), integers(0, lanes))
            made = values.vload([0], emit.vector("float32", lanes))
            place = [*self._leading(row), emit.run(channel, lanes)]
            T.buffer_store(self._out, tirx.Select(revealing, bits, made), place)
            return

        def byte(start: int, count: int) -> Any:
            shift = (self._reveal[0] - 1) * 8 & 31
            return revealing, integers(start, count) >> shift & 255

        at = codes.at(*self._pixel(row), channel)
        codes.store(self._out, at, values, self._quantizer, self._target, byte)

    def _leading(self, row: Any) -> list[Any]:
        """Return a row as an index of all stored axes but the last."""
        index: list[Any] = []
        for extent in reversed(self._output.stored[:-1]):
            outer = self._output.rows == extent
            index.insert(0, 0 if extent == 1 else row if outer else row % extent)
            row = row if extent == 1 else 0 if outer else row // extent
        return index

    def _pixel(self, row: Any) -> tuple[Any, Any]:
        codes = self._output.codes
        assert codes is not None
        if codes.height == 1:
            return 0, row
        return row // codes.width, row % codes.width


@dataclass(frozen=True)
class IntegerProduct(Kernel):
    """codes times packed weights, with an output: `pixels` x `tile` sums at a time.

    Weights are [N / tile, ...]; N is padded to whole tiles. Pixels beyond a line's last whole tile
    are covered by a tile that overlaps the one before.
    """

    output: Output
    pixels: int
    tile: int

    @property
    def out_shape(self) -> Shape:
        return self.output.destination[1]

    @property
    def out_dtype(self) -> str:
        return self.output.destination[2]

    @property
    def blocks(self) -> int:
        """Tiles of output channels, the last one padded."""
        return math.ceil(self.output.channels / self.tile)

    @property
    @abstractmethod
    def line(self) -> int:
        """Rows that tiles may span: the pixels of a line."""

    @property
    @abstractmethod
    def operand_parameters(self) -> list[emit.Parameter]:
        """Codes and weights."""

    def prepare(self, a: Any, w: Any, target: Target) -> tuple[Any, Any]:
        """Emit what comes before all tiles; return the operands as `sums` takes them."""
        return a, w

    def place(self, job: Any, lines: int) -> tuple[Any, Any]:
        """Return the block of channels and the line of a job; all lines of a block by default."""
        return job // lines, job % lines

    @abstractmethod
    def sums(self, a: Any, w: Any, at: tuple[Any, Any, Any], target: Target) -> Any:
        """Emit the products of one tile; `at` is its block of channels, its line, its first row.

        Return the buffer [pixels * tile] int32 of the sums.
        """

    @property
    def groups(self) -> int:
        """Tiles of a line, the last one perhaps overlapping."""
        return math.ceil(self.line / self.pixels)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        lines = self.output.rows // self.line

        def body(a: Any, w: Any, *rest: Any) -> None:
            writer = Writer(self.output, rest, target)
            writer.begin()
            operands = self.prepare(a, w, target)
            with T.parallel(0, self.blocks * lines) as job, T.serial(0, self.groups) as group:
                block, line = self.place(job, lines)
                first = T.bind(tirx.min(group * self.pixels, self.line - self.pixels))
                with T.sblock("tile"):
                    T.reads()
                    T.writes()
                    self._tile(writer, operands, (block, line, first), target)

        return emit.function([*self.operand_parameters, *self.output.parameters()], body)

    def _tile(
        self, writer: Writer, operands: tuple[Any, Any], at: tuple[Any, Any, Any], target: Target
    ) -> None:
        sums = self.sums(*operands, at, target)
        block, line, first = at
        rest = self.output.channels % self.tile
        # Bytes are packed from as many vectors together as they are narrower.
        widest = target.fp32_lanes * (CODES_OF_A_VECTOR if self.output.codes else 1)

        def write(channels: int) -> None:
            writer.begin_tile()
            for i in range(self.pixels):
                row = line * self.line + first + i
                for start in range(0, channels, widest):
                    lanes = min(widest, channels - start)
                    at = i * self.tile + start
                    writer.write(sums, at, row, block * self.tile + start, lanes)

        if not rest:
            write(self.tile)
        elif self.blocks == 1:
            write(rest)
        else:
            with T.If(block < self.blocks - 1):
                with T.Then():
                    write(self.tile)
                with T.Else():
                    write(rest)
