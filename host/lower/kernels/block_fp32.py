"""float32 layers of which blocks of four outputs stay: the other weights are skipped.

Sums of four outputs at a strip of positions are in registers; vectors run along the positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit, pointwise, product_fp32, schedule
from host.lower.kernels.blocks import Blocks, by_position
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.dense_fp32 import unravel
from host.lower.kernels.float_conv import bordered
from host.lower.kernels.kernel import Accessor, Cost, Kernel, logical
from host.lower.kernels.planes import TRANSPOSE_OPS, Planes
from host.lower.kernels.register_tile import LOOP_CYCLES
from host.lower.program import Shape, Step
from host.lower.targets import Target
from host.lower.views import physical
from host.sparsity import BLOCK_OUTPUTS

# Element operations of a step besides its products: where its run begins, and the loop.
STEP_OPS = 2


@dataclass(frozen=True)
class BlockFp32(Kernel):
    """x [1, H, W, I], w (host.lower.kernels.blocks), bias [O], operands -> `shape` in `order`.

    `kept` blocks stay; the sums of four outputs at `strip` positions are in registers, whole
    vectors of them. The last strip overlaps the one before.
    """

    kind: ClassVar[str] = "block_fp32"
    conv: ConvShape
    kept: int
    strip: int
    shape: Shape
    order: tuple[int, ...]
    operands: tuple[Accessor, ...] = ()
    post: tuple[Step, ...] = ()

    @property
    def out_shape(self) -> Shape:
        return physical(self.shape, self.order)

    @property
    def weights(self) -> Blocks:
        """The weights."""
        return Blocks(math.ceil(self.conv.out_channels / BLOCK_OUTPUTS), self.kept, 1)

    @property
    def planes(self) -> Planes:
        """The inputs as they are walked."""
        return Planes(self.conv.walked)

    @property
    def strips(self) -> int:
        """Strips of all positions."""
        return math.ceil(self.planes.positions / self.strip)

    def prim_func(self, target: Target) -> tirx.PrimFunc:
        c, weights, positions = self.conv.walked, self.weights, self.planes.positions
        strip = min(positions, self.strip)
        loop = schedule.loop(self.cost().macs)

        def body(x: Any, w: Any, *rest: Any) -> None:
            flat = bordered(c, x, loop, target)
            planes = self.planes.fill(flat, "float32", BLOCK_OUTPUTS, loop)
            with loop(0, weights.rows * self.strips) as job, T.sblock("tile"):
                T.reads()
                T.writes()
                row, group = job // self.strips, job % self.strips
                first = T.bind(tirx.min(group * strip, positions - strip))
                sums = self._sums((planes, w), (row, first), target)

                def write(last: bool) -> None:
                    channels = c.out_channels % BLOCK_OUTPUTS if last else BLOCK_OUTPUTS
                    self._write(sums, rest, (first, row * BLOCK_OUTPUTS), (strip, channels))

                tail = c.out_channels % BLOCK_OUTPUTS
                product_fp32.whole_or_rest(row, weights.rows, tail, write)

        x = ("x", (1, self.conv.height, self.conv.width, c.in_channels), "float32")
        bias = ("bias", (c.out_channels,), "float32")
        operands = [(f"r{i}", a.shape, "float32") for i, a in enumerate(self.operands)]
        out = ("out", self.out_shape, "float32")
        return emit.function([x, weights.parameter, bias, *operands, out], body)

    def _sums(self, operands: tuple[Any, Any], at: tuple[Any, Any], target: Target) -> Any:
        """Emit the products of a strip; return a buffer [positions * 4] of its sums."""
        (planes, w), (row, first), lanes = operands, at, target.fp32_lanes
        kind, vectors = emit.vector("float32", lanes), self.strip // lanes
        acc = emit.registers(BLOCK_OUTPUTS * vectors, kind)
        emit.clear(acc, tirx.const(0.0, "float32"), lanes)

        def step(starts: list[Any], words: Any) -> None:
            values = tirx.reinterpret(f"float32x{BLOCK_OUTPUTS}", words)
            spread = [
                T.bind(emit.spread(tirx.Shuffle([values], [o]), lanes))
                for o in range(BLOCK_OUTPUTS)
            ]
            for v in range(vectors):
                x = T.bind(planes.vload([starts[0] + first + v * lanes], kind))
                for o, weight in enumerate(spread):
                    t = o * vectors + v
                    T.buffer_store(acc, acc[t] + x * weight, [t])

        self.weights.walk(w, row, step)
        return by_position(acc, vectors, lanes, "float32")

    def _write(
        self,
        sums: Any,
        buffers: tuple[Any, ...],
        at: tuple[Any, Any],
        extents: tuple[int, int],
    ) -> None:
        """Emit the epilogue of a strip: bias, then pointwise steps."""
        bias, *operands, out = buffers
        first, channel = at
        rows = math.prod(self.out_shape[:-1])
        flat = T.decl_buffer((rows, self.out_shape[-1]), "float32", data=out.data)
        with T.serial(0, emit.hidden(extents[0])) as i, T.vectorized(0, extents[1]) as lane:
            place, output = first + i, channel + lane
            index = logical([*unravel(place, self.out_shape[:-1]), output], self.order)
            value = pointwise.apply(
                sums[i * BLOCK_OUTPUTS + lane] + bias[output],
                self.post,
                lambda k: self.operands[k].read(operands[k], index),
            )
            T.buffer_store(flat, value, [place, output])

    def cost(self) -> Cost:
        c, planes = self.conv, self.planes.elements
        outputs = self.planes.positions * c.out_channels
        extra = sum(a.elements for a in self.operands)
        return Cost(
            macs=self.strips * self.strip * self.weights.weights,
            ops=outputs * pointwise.ops(self.post)
            + STEP_OPS * self.strips * self.kept
            + TRANSPOSE_OPS["float32"] * planes,
            bytes_read=4 * (c.height * c.width * c.in_channels + planes + extra),
            bytes_written=4 * (planes + outputs),
            weight_bytes=4 * (self.weights.words + c.out_channels),
        )


def strip_of(positions: int, target: Target) -> int:
    """Return the strip, whole vectors, that covers so many positions in fewest cycles."""
    most = (target.vector_registers - BLOCK_OUTPUTS) // (BLOCK_OUTPUTS + 1)

    def cycles(vectors: int) -> float:
        step = max(BLOCK_OUTPUTS * vectors / target.fma_per_cycle, target.fma_latency)
        return math.ceil(positions / (vectors * target.fp32_lanes)) * (step + LOOP_CYCLES)

    return min(range(1, most + 1), key=cycles) * target.fp32_lanes
