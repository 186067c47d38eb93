"""How many single weights a pattern keeps: known from sizes alone, before there is a weight.

A pattern keeps units, each of `height` neighbouring outputs and one weight of every one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from host.policy import BLOCK, LayerPolicy

# Outputs that a NEON register of float32 holds, and of which a block has one weight each.
BLOCK_OUTPUTS = 4
# Of so many weights in a row the pattern 2:4 keeps half.
RUN, RUN_KEPT = 4, 2
TWO_OF_FOUR = "2:4"


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays of a layer's weights [outputs, unknowns]: `count` units of `height` outputs."""

    outputs: int
    unknowns: int
    height: int
    count: int

    @property
    def rows(self) -> int:
        """Rows of units, the last one perhaps with fewer outputs than its height."""
        return -(-self.outputs // self.height)

    @property
    def map_bytes(self) -> int:
        """Bytes of a map with one bit for every unit."""
        return -(-self.rows * self.unknowns // 8)

    @property
    def values(self) -> int:
        """Weights of all units that stay."""
        return self.count * self.height


def kept(form: LayerPolicy, outputs: int, unknowns: int) -> Kept | None:
    """Return what a policy keeps of [outputs, unknowns] weights; None where it keeps all."""
    if not form.zeros:
        return None
    if form.pruner == TWO_OF_FOUR:
        whole, rest = divmod(unknowns, RUN)
        return Kept(outputs, unknowns, 1, outputs * (whole * RUN_KEPT + min(rest, RUN_KEPT)))
    height = BLOCK_OUTPUTS if form.pruner == BLOCK else 1
    rows = -(-outputs // height)
    return Kept(outputs, unknowns, height, count_of(rows, unknowns, form.zeros / 100))


def count_of(rows: int, columns: int, share: float) -> int:
    """Return how many of rows x columns stay when a share goes, but for one of every row."""
    return max(rows, rows * columns - round(share * rows * columns))
