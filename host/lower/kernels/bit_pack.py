"""Codes of few bits as bit planes, laid out as a matrix of patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit
from host.lower.kernels.codes import PLANE_CHANNELS, Codes, round_up
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.kernel import Cost, Kernel
from host.lower.program import Shape
from host.lower.targets import Target

# Planes are written in vectors of 16 bytes, each from eight vectors of codes.
VECTOR_BYTES = 16
CHUNK_CODES = VECTOR_BYTES * PLANE_CHANNELS


@dataclass(frozen=True)
class BitPack(Kernel):
    """codes -> [rows, bits, K bytes]: eight channels of a plane a byte, zero beyond the taps.

    `depth_tile` is what K is padded to.
    """

    kind: ClassVar[str] = "bit_pack"
    dtype: ClassVar[str] = "uint8"
    conv: ConvShape
    codes: Codes
    depth_tile: int

    @property
    def rows(self) -> int:
        return self.conv.out_height * self.conv.out_width

    @property
    def depth(self) -> int:
        """Bytes of a plane of one patch."""
        return self.conv.taps * self.codes.pixel // PLANE_CHANNELS

    @property
    def out_shape(self) -> Shape:
        return (self.rows, self.codes.bits, round_up(self.depth, self.depth_tile))

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        codes = self.codes
        chunks = math.ceil(codes.count / CHUNK_CODES)

        def body(q: Any, out: Any) -> None:
            planes = T.sblock_alloc_buffer((codes.bits, chunks * VECTOR_BYTES), "uint8")
            with T.parallel(0, chunks) as chunk:
                loaded = [
                    T.bind(q.vload([chunk * CHUNK_CODES + i * VECTOR_BYTES], "uint8x16"))
                    for i in range(PLANE_CHANNELS)
                ]
                for plane in range(codes.bits):
                    pieces = _pack(loaded, plane, target)
                    lanes = VECTOR_BYTES // len(pieces)
                    for i, piece in enumerate(pieces):
                        at = chunk * VECTOR_BYTES + i * lanes
                        T.buffer_store(planes, piece, [plane, tirx.Ramp(at, 1, lanes)])
            with T.parallel(0, self.rows) as row, T.serial(0, codes.bits) as plane:
                self._patch(planes, out, row, plane)

        parameters = [("q", codes.shape, codes.dtype), ("out", self.out_shape, self.dtype)]
        return emit.function(parameters, body)

    def _patch(self, planes: Any, out: Any, row: Any, plane: Any) -> None:
        """Emit the bytes of one plane under one kernel position."""
        c, codes = self.conv, self.codes
        line, pixel = row // c.out_width * c.stride[0], row % c.out_width * c.stride[1]
        run = c.kernel[1] * codes.pixel // PLANE_CHANNELS
        for tap in range(c.kernel[0]):
            start = ((line + tap) * codes.row + pixel * codes.pixel) // PLANE_CHANNELS

            def copy(at: Any, lanes: int, start: Any = start, tap: int = tap) -> None:
                with T.vectorized(0, lanes) as lane:
                    value = planes[plane, start + at + lane]
                    T.buffer_store(out, value, [row, plane, tap * run + at + lane])

            emit.vectors(run, VECTOR_BYTES, copy)
        if rest := self.out_shape[2] - self.depth:
            with T.vectorized(0, rest) as lane:
                T.buffer_store(out, tirx.const(0, "uint8"), [row, plane, self.depth + lane])

    def cost(self) -> Cost:
        packed = math.prod(self.out_shape)
        count = self.codes.count
        return Cost(ops=count * self.codes.bits + packed, bytes_read=count, bytes_written=packed)


def _pack(codes: Sequence[Any], plane: int, target: Target) -> list[Any]:
    """Return the bytes of a plane of eight vectors of codes, in pieces of equal size."""
    if target.arch == "x86_64":
        return [_signs(vector, plane) for vector in codes]
    bit = tirx.Broadcast(tirx.const(1 << plane, "uint8"), VECTOR_BYTES)
    none = tirx.Broadcast(tirx.const(0, "uint8"), VECTOR_BYTES)
    places = tirx.Ramp(tirx.const(0, "int32"), 1, VECTOR_BYTES)
    place = tirx.Broadcast(tirx.const(1, "int32"), VECTOR_BYTES) << (places % 8)
    place = place.astype(f"uint8x{VECTOR_BYTES}")
    vectors = [tirx.Select((vector & bit) != none, place, none) for vector in codes]
    while len(vectors) > 1:
        vectors = [_addp(a, b) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors


def _signs(codes: Any, plane: int) -> Any:
    """Return bit `plane` of sixteen codes as two bytes."""
    shift = tirx.Broadcast(tirx.const(7 - plane, "uint8"), VECTOR_BYTES)
    mask = emit.llvm("x86.sse2.pmovmskb.128", codes << shift, dtype="int32")
    return tirx.reinterpret("uint8x2", mask.astype("uint16"))


def _addp(a: Any, b: Any) -> Any:
    return emit.llvm("aarch64.neon.addp.v16i8", a, b, dtype="uint8x16")
