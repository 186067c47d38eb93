"""float32 linear layers: the convolution kernel with one tap, tokens as its width."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from host.lower.kernels.conv_fp32 import ConvFp32, ConvShape
from host.lower.program import Shape


def dense_shape(tokens: int, in_features: int, out_features: int) -> ConvShape:
    """Return a linear layer over `tokens` rows as a 1x1 convolution of a 1 x tokens picture."""
    return ConvShape(1, tokens, in_features, out_features, (1, 1), (1, 1), (0, 0))


def unravel(flat: Any, shape: Shape) -> list[Any]:
    """Return the index of a flat position."""
    index = []
    for axis, extent in enumerate(shape):
        below, above = math.prod(shape[axis + 1 :]), math.prod(shape[:axis])
        outer = flat if below == 1 else flat // below
        index.append(0 if extent == 1 else outer if above == 1 else outer % extent)
    return index


@dataclass(frozen=True)
class DenseFp32(ConvFp32):
    """x [1, 1, tokens, I], w [O / tile, 1, 1, I, tile], bias [O], operands -> [1, 1, tokens, O].

    `lead` is the logical shape of the tokens, which the operands of the epilogue are indexed by.
    """

    kind: ClassVar[str] = "dense_fp32"
    lead: Shape = ()

    def logical_index(self, stored: Any) -> list[Any]:
        """Return the token's own index, then the channel."""
        token, channel = stored[2], stored[3]
        return [*unravel(token, self.lead), channel]
