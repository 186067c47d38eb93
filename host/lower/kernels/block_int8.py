"""int8 layers of which blocks of four outputs stay: the other weights are skipped.

Four blocks are taken together, so that all lanes of a product of bytes are used: the codes of two
lie side by side in a vector, for neighbouring positions, and are multiplied by pairs of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit, schedule
from host.lower.kernels.blocks import STEP_WORDS, Blocks, by_position
from host.lower.kernels.codes import Codes
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.integer_product import IntegerProduct
from host.lower.kernels.kernel import Cost
from host.lower.kernels.planes import TRANSPOSE_OPS, Planes
from host.lower.targets import Target
from host.sparsity import BLOCK_OUTPUTS

# Blocks of a step: two pairs.
DEPTH, PAIR = 4, 2
# Element operations of a step besides its products, as `Cost` counts them: where its runs begin,
# codes of pairs brought together, weights spread. With the rate a line through mca's estimates.
STEP_OPS = 50
# Positions of a vector of sums.
LANES = 4
# Positions and channels that are transposed together.
SQUARE = 8
# Positions whose sums for four outputs fill half of the registers.
WIDEST_STRIP = 16


@dataclass(frozen=True)
class BlockInt8(IntegerProduct):
    """codes, w (host.lower.kernels.blocks) -> output; `kept` blocks stay.

    `pixels` positions of a picture are a strip, wherever its lines end; `tile` is four.
    """

    kind: ClassVar[str] = "block_int8"
    conv: ConvShape
    codes: Codes
    kept: int

    @property
    def weights(self) -> Blocks:
        """The weights."""
        return Blocks(self.blocks, self.kept, DEPTH)

    @property
    def planes(self) -> Planes:
        """The codes as they are walked."""
        return Planes(self.conv.walked)

    @property
    def line(self) -> int:
        return self.output.rows

    @property
    def operand_parameters(self) -> list[emit.Parameter]:
        """Codes and weights."""
        return [("a", self.codes.shape, self.codes.dtype), self.weights.parameter]

    def prepare(self, a: Any, w: Any, target: Target) -> tuple[Any, Any]:
        """Emit the planes of the codes."""
        loop = schedule.loop(self.planes.elements)
        return self.planes.fill(a, self.codes.dtype, SQUARE, loop), w

    def sums(self, a: Any, w: Any, at: tuple[Any, Any, Any], target: Target) -> Any:
        lanes = LANES if target.arch == "aarch64" else 2 * LANES
        groups = 1 << (-(-self.pixels // lanes) - 1).bit_length()
        multiply = _smull if target.arch == "aarch64" else _pmaddwd
        row, _, first = at
        acc = emit.registers(BLOCK_OUTPUTS * groups, f"int32x{lanes}")
        emit.clear(acc, tirx.const(0, "int32"), lanes)

        def step(starts: list[Any], words: Any) -> None:
            kind = f"{self.codes.dtype}x{groups * lanes}"
            codes = [T.bind(a.vload([start + first], kind)) for start in starts]
            pairs = [
                emit.interleave(codes[i : i + PAIR], groups * lanes) for i in range(0, DEPTH, PAIR)
            ]
            multiply(acc, groups, pairs, words)

        self.weights.walk(w, row, step)
        return by_position(acc, groups, lanes, "int32")

    def cost(self) -> Cost:
        rest, planes = self.output.cost(), self.planes.elements
        vectors = self.groups * -(-self.pixels // LANES)
        ops = STEP_OPS * self.groups * self.weights.steps + TRANSPOSE_OPS[self.codes.dtype] * planes
        return Cost(
            macs=vectors * LANES * self.weights.weights,
            ops=rest.ops + ops,
            bytes_read=rest.bytes_read + self.codes.count + planes,
            bytes_written=rest.bytes_written + planes,
            weight_bytes=rest.weight_bytes + 4 * self.weights.words,
        )


def _smull(acc: Any, groups: int, pairs: list[list[Any]], words: Any) -> None:
    """Emit NEON's products: two of bytes fit a lane of 16 bits, then neighbours are added."""
    weights = T.bind(tirx.reinterpret("int16x8", words))
    for o in range(BLOCK_OUTPUTS):
        spread = [
            T.bind(tirx.Broadcast(tirx.Shuffle([weights], [i * STEP_WORDS + o]), SQUARE))
            for i in range(len(pairs))
        ]
        spread = [T.bind(tirx.reinterpret("int8x16", weight)) for weight in spread]
        for group in range(groups):
            products = [
                emit.llvm(
                    "aarch64.neon.smull.v8i16",
                    _eight(codes, group, groups),
                    _half(weight, group % 2),
                    dtype="int16x8",
                )
                for codes, weight in zip(pairs, spread, strict=True)
            ]
            added = emit.llvm(
                "aarch64.neon.saddlp.v4i32.v8i16", products[0] + products[1], dtype="int32x4"
            )
            t = o * groups + group
            T.buffer_store(acc, acc[t] + added, [t])


def _eight(pairs: list[Any], group: int, groups: int) -> Any:
    """Return the pairs of codes of four positions."""
    if groups == 1:  # two vectors of four
        return tirx.Shuffle(pairs, list(range(8)))
    if groups == 2:
        return pairs[group]
    return _half(pairs[group // 2], group % 2)


def _half(bytes16: Any, high: int) -> Any:
    return (tirx.vectorhigh if high else tirx.vectorlow)("int8x8", bytes16)


def _pmaddwd(acc: Any, groups: int, pairs: list[list[Any]], words: Any) -> None:
    """Emit AVX2's products of pairs, both of 16 bits, added in 32."""
    weights = tirx.reinterpret("int8x16", words).astype("int16x16")
    weights = T.bind(tirx.reinterpret("int32x8", weights))
    for group in range(groups):
        ours = [T.bind(_sixteen(codes, group, groups).astype("int16x16")) for codes in pairs]
        for o in range(BLOCK_OUTPUTS):
            t = o * groups + group
            for i, codes in enumerate(ours):
                weight = tirx.Broadcast(tirx.Shuffle([weights], [i * STEP_WORDS + o]), SQUARE)
                both = tirx.reinterpret("int16x16", weight)
                made = emit.llvm("x86.avx2.pmadd.wd", codes, both, dtype="int32x8")
                T.buffer_store(acc, acc[t] + made, [t])


def _sixteen(pairs: list[Any], group: int, groups: int) -> Any:
    """Return the pairs of codes of eight positions."""
    if groups == 1:  # two vectors of eight
        return tirx.Shuffle(pairs, list(range(16)))
    return pairs[group]
