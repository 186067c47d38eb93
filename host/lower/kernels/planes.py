"""The inputs of a convolution, laid out so that what one weight meets is one run of neighbours.

A kernel that walks single weights of a channel needs, for each, its inputs at all positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from host.lower.kernels import emit
from host.lower.kernels.conv_shape import ConvShape

# Vectors are loaded up to this many elements beyond the last run.
SLACK = 32
# Element operations of an input on its way into the planes: counted in whole kernels of the A72.
TRANSPOSE_OPS = {"float32": 4, "int8": 2, "uint8": 2}


@dataclass(frozen=True)
class Planes:
    """[C, KW, copies, lines, OW], flat and with slack: weight (c, ty, tx) meets OH * OW neighbours.

    With a stride of one line, lines of the kernel overlap and share one copy; else each has its
    own.
    """

    conv: ConvShape

    @property
    def positions(self) -> int:
        """Length of a run: OH * OW."""
        return self.conv.out_height * self.conv.out_width

    @property
    def copies(self) -> int:
        return 1 if self.conv.stride[0] == 1 else self.conv.kernel[0]

    @property
    def lines(self) -> int:
        """Lines of a copy."""
        c = self.conv
        return c.out_height + (c.kernel[0] - 1 if self.copies == 1 else 0)

    @property
    def steps(self) -> Mapping[str, int]:
        """Where runs begin: weight number u in the order (C, KW, KH) at

        u // lines * plane + u % lines * line.
        """
        c = self.conv
        line = c.out_width * (1 if self.copies == 1 else self.lines)
        plane = self.copies * self.lines * c.out_width
        return {"lines": c.kernel[0], "plane": plane, "line": line}

    @property
    def elements(self) -> int:
        """Elements of all runs."""
        return self.conv.in_channels * self.conv.kernel[1] * self.steps["plane"]

    def fill(self, source: Any, dtype: str, widest: int, loop: Any) -> Any:
        """Emit the planes of a picture with its border [H + 2P, W + 2P, C], flat; return them.

        Squares of at most `widest` positions and channels are transposed in registers.
        """
        c = self.conv
        planes = T.sblock_alloc_buffer((self.elements + SLACK,), dtype)
        side = 1 << min(c.in_channels, c.out_width, widest).bit_length() - 1
        kind, pixel = emit.vector(dtype, side), c.stride[1] * c.in_channels
        with loop(0, self.lines) as line, T.sblock("line"):
            T.reads()
            T.writes()
            with (
                T.serial(0, self.copies) as copy,
                T.serial(0, c.kernel[1]) as tap,
                T.serial(0, -(-c.in_channels // side)) as part,
                T.serial(0, -(-c.out_width // side)) as run,
            ):
                channel = T.bind(_covered(part, side, c.in_channels))
                column = T.bind(_covered(run, side, c.out_width))
                row = (line * c.stride[0] + copy) * c.bordered[1] + tap
                start = T.bind(row * c.in_channels + column * pixel + channel)
                square = [T.bind(source.vload([start + i * pixel], kind)) for i in range(side)]
                for i, values in enumerate(emit.interleave(square, side)):
                    plane = ((channel + i) * c.kernel[1] + tap) * self.steps["plane"]
                    place = plane + (copy * self.lines + line) * c.out_width + column
                    T.buffer_store(planes, values, [emit.run(place, side)])
        return planes


def _covered(part: Any, side: int, count: int) -> Any:
    """Return where a part of `side` begins; the last one overlaps the one before."""
    return part * side if count % side == 0 else tirx.min(part * side, count - side)
