"""What a wish for a layer costs in accuracy, read off the table of sensitivities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from host.policy import Choice
from host.sensitivity.table import Kind
from host.types import Layer


def harm(table: Mapping[Kind, tuple[float, ...]], layer: Layer, wish: Choice) -> float:
    """Return the summed sensitivities of a wish; `table` is the layer's row, by kind."""
    total = 0.0
    if wish.keep is not None and (ratios := table.get("prune")):
        sparsity = 1 - wish.keep / layer.out_channels
        total += float(np.interp(sparsity * len(ratios), range(len(ratios)), ratios))
    if wish.mode == "int8":
        total += sum(table.get("int8", ()))
    if wish.mode == "mix":
        pairs: tuple[tuple[Kind, int], ...] = (
            ("act", wish.act_bits),
            ("weight", wish.weight_bits),
        )
        for kind, bits in pairs:
            if levels := table.get(kind):
                total += levels[min(bits, len(levels)) - 1]
    return total
