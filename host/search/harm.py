"""What single decisions cost in accuracy, read off the tables of a problem."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from host.encoding import Harms
from host.policy import Choice
from host.search.strategy import Problem
from host.sensitivity.table import Kind
from host.types import Layer

# Divergences in nats are expm1 of this times the table's normalised features, up to one factor.
LOG_SPAN = 2.5


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


def harms(problem: Problem) -> Harms:
    """Return what adds up over layers: errors that solving leaves, else divergences in nats."""
    if problem.residuals:
        return problem.residuals
    return {
        layer: {kind: np.expm1(LOG_SPAN * np.asarray(row)).tolist() for kind, row in rows.items()}
        for layer, rows in problem.sensitivity.items()
    }


def alike(table: Harms) -> Harms:
    """Return a table in which every layer is as sensitive as the average one."""
    kinds = {kind for row in table.values() for kind in row}
    mean = {
        kind: tuple(np.mean([row[kind] for row in table.values() if kind in row], axis=0))
        for kind in kinds
    }
    return dict.fromkeys(table, mean)
