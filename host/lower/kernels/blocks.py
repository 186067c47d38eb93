"""What stays of a layer's weights in blocks of four outputs: where it lies and how it is walked.

Which blocks stay is data: a kernel knows only how many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit
from host.sparsity import BLOCK_OUTPUTS

# int32 words of weights in a step: four float32, or four bytes of each of four blocks.
STEP_WORDS = 4


@dataclass(frozen=True)
class Blocks:
    """`kept` blocks of `rows` rows, each of four outputs, taken `depth` at a time.

    One stream of int32 (encoding `blocks`): the step that each row begins with, and the end; where
    the run of inputs of every block begins (host.lower.kernels.planes); the weights, step by step.
    """

    rows: int
    kept: int
    depth: int

    @property
    def steps(self) -> int:
        """Steps of all rows at most: each row's last one may not be full."""
        return (self.kept + (self.depth - 1) * self.rows) // self.depth

    @property
    def words(self) -> int:
        """Length of the stream."""
        return self.rows + 1 + (self.depth + STEP_WORDS) * self.steps

    @property
    def parameter(self) -> emit.Parameter:
        """The stream as a parameter of a kernel."""
        return ("w", (self.words,), "int32")

    @property
    def weights(self) -> int:
        """Weights of all steps."""
        return BLOCK_OUTPUTS * self.depth * self.steps

    def walk(self, w: Any, row: Any, body: Callable[[list[Any], Any], None]) -> None:
        """Emit `body(starts, weights)` for every step of a row: where its runs begin, and words."""
        first, behind = T.bind(w[row]), T.bind(w[row + 1])
        offsets = self.rows + 1
        values = offsets + self.depth * self.steps
        with T.serial(0, behind - first) as i:
            step = T.bind(first + i)
            starts = [T.bind(w[offsets + step * self.depth + k]) for k in range(self.depth)]
            words = T.bind(w.vload([values + step * STEP_WORDS], f"int32x{STEP_WORDS}"))
            body(starts, words)


def by_position(acc: Any, vectors: int, lanes: int, dtype: str) -> Any:
    """Emit registers of sums, position by position, from vectors of them, output by output."""
    sums = emit.registers(BLOCK_OUTPUTS * vectors * lanes, dtype)
    for v in range(vectors):
        ours = [acc[o * vectors + v] for o in range(BLOCK_OUTPUTS)]
        for i, values in enumerate(emit.interleave(ours, lanes)):
            start = (v * BLOCK_OUTPUTS + i) * lanes
            T.buffer_store(sums, values, [emit.run(start, lanes)])
    return sums
