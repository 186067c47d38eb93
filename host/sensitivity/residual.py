"""What solving cannot make up for: every layer's error when it alone is compressed and solved anew.

One pass of the uncompressed network over calibration images. The figure is the squared error of a
layer's outputs over their variance, after its weights were solved for them: with inputs or weights
of few bits, and, for the driver of a channel group, summed over the layers that read what is left
of the group. No network is run for any setting.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from host.compress.finetune import evaluating
from host.compress.layers import QuantLayer
from host.compress.plan import ChannelGroup, Member, PruningPlan
from host.compress.prune import strongest
from host.compress.quantize import quantized
from host.compress.ranges import thinned
from host.compress.reconstruct import MOST_UNKNOWNS, System, Teacher, flat
from host.errors import UnsupportedLayer
from host.policy import INT8_BITS, MAX_MIX_BITS
from host.sensitivity.table import SPARSITIES, Kind

Residuals = dict[str, dict[Kind, tuple[float, ...]]]
BITS = range(1, MAX_MIX_BITS + 1)


def residuals(
    module: nn.Module,
    plan: PruningPlan,
    known: Teacher,
    on_progress: Callable[[int, str], None] = lambda done, what: None,
) -> Residuals:
    """Return the errors of every layer by kind, shaped as the sensitivity table's features."""
    table: Residuals = {layer: {} for layer in known.rows}
    losses: dict[str, np.ndarray] = {g.driver: np.zeros(len(SPARSITIES)) for g in plan.groups}

    def look(layer: str, at: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
        weight: Tensor = at.weight  # type: ignore[assignment]
        if weight[0].numel() > MOST_UNKNOWNS:
            return
        wanted = flat(out)[known.rows[layer]]
        on_progress(sum(bool(row) for row in table.values()), layer)
        table[layer] |= _formats(at, inputs[0], wanted, known.rows[layer])
        system = System.of(at, inputs[0], wanted, known.rows[layer])
        for group in plan.groups:
            for member in group.members:
                if member.module == layer and member.side == "in":
                    losses[group.driver] += _widths(module, group, system, member)

    with ExitStack() as hooks, evaluating(module), torch.no_grad():
        for layer in known.rows:
            hook = module.get_submodule(layer).register_forward_hook(partial(look, layer))
            hooks.callback(hook.remove)
        module(known.images)
    for driver, found in losses.items():
        table[driver]["prune"] = tuple(found.tolist())
    return table


def _formats(
    layer: nn.Module, x: Tensor, wanted: Tensor, rows: Tensor
) -> dict[Kind, tuple[float, ...]]:
    try:
        return {
            "act": tuple(_loss(layer, x, wanted, rows, INT8_BITS, bits) for bits in BITS),
            "weight": tuple(_loss(layer, x, wanted, rows, bits, INT8_BITS) for bits in BITS),
            "int8": (_loss(layer, x, wanted, rows, INT8_BITS, INT8_BITS),),
        }
    except UnsupportedLayer:
        return {}


def _loss(
    layer: nn.Module, x: Tensor, wanted: Tensor, rows: Tensor, weight_bits: int, act_bits: int
) -> float:
    """Return the share of the outputs' variance that a quantized layer cannot give."""
    made: QuantLayer = quantized(copy.deepcopy(layer), weight_bits, act_bits)
    made.fit_range(thinned(x))
    system = System.of(made, made.quantized_input(x), wanted, rows)
    system.solve(made)
    return system.loss(made.weight)


def _widths(network: nn.Module, group: ChannelGroup, system: System, member: Member) -> np.ndarray:
    """Return the loss of a reading layer for every sparsity of the group that it reads."""
    losses = []
    for setting in SPARSITIES:
        keep = max(round(group.width * (1 - setting.value)), 1)
        kept = np.isin(member.root, strongest(network, group, keep))
        losses.append(system.loss_without(member.local[~kept]) if not kept.all() else 0.0)
    return np.asarray(losses)
