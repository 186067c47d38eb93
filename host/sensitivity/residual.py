"""What solving cannot make up for: every layer's error when it alone is compressed and solved anew.

One pass of the uncompressed network over calibration images. The figure is the squared error of a
layer's outputs over their variance, after its weights were solved for them: with inputs or weights
of few bits, and, for the driver of a channel group, summed over the layers that read what is left
of the group. Layers that are too large to be solved answer with the weights that they have. No
network is run for any setting. A weight per layer says how much its errors matter.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from host.compress.layers import QuantLayer
from host.compress.listening import listening
from host.compress.plan import ChannelGroup, Member, PruningPlan
from host.compress.prune import strongest
from host.compress.quantize import quantized
from host.compress.ranges import best_clip_ratio, thinned
from host.compress.reconstruct import System, Teacher, flat, solvable
from host.errors import UnsupportedLayer
from host.policy import INT8_BITS, MAX_MIX_BITS
from host.sensitivity.table import SPARSITIES, Kind

Residuals = dict[str, dict[Kind, tuple[float, ...]]]
BITS = range(1, MAX_MIX_BITS + 1)


def residuals(
    module: nn.Module,
    plan: PruningPlan,
    known: Teacher,
    weights: Mapping[str, float],
    on_progress: Callable[[int, str], None] = lambda done, what: None,
) -> Residuals:
    """Return the errors of every layer by kind, shaped as the sensitivity table's features.

    All errors that a layer makes are multiplied by its weight.
    """
    table: Residuals = {layer: {} for layer in known.rows}
    losses: dict[str, np.ndarray] = {g.driver: np.zeros(len(SPARSITIES)) for g in plan.groups}

    def look(layer: str, at: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
        on_progress(sum(bool(row) for row in table.values()), layer)
        asked = (_Solved if solvable(at) else _Kept)(at, inputs[0], out, known.rows[layer])
        weight = weights[layer]
        table[layer] |= _formats(asked, weight)
        for group in plan.groups:
            for member in group.members:
                if member.module == layer and member.side == "in":
                    losses[group.driver] += weight * _widths(module, group, asked, member)

    with listening(module, known.rows, look), torch.no_grad():
        module(known.images)
    for driver, found in losses.items():
        table[driver]["prune"] = tuple(found.tolist())
    return table


class _Solved:
    """A layer whose compressed weights are solved for what it answers at some rows."""

    def __init__(self, layer: nn.Module, x: Tensor, out: Tensor, rows: Tensor) -> None:
        self.layer, self._x, self._rows = layer, x, rows
        self._wanted = flat(out)[rows]

    @cached_property
    def _system(self) -> System:
        return System.of(self.layer, self._x, self._wanted, self._rows)

    def quantized(self, weight_bits: int, act_bits: int) -> float:
        """Return what is lost with so many bits: a share of the outputs' variance."""
        made = _quantized(self.layer, self._x, weight_bits, act_bits)
        system = System.of(made, self._x, self._wanted, self._rows)
        system.solve(made)
        return system.loss(made.weight)

    def without(self, channels: Any) -> float:
        """Return what is lost where some input channels are gone."""
        return self._system.loss_without(channels)


class _Kept:
    """A layer that keeps its weights, rounded or not."""

    def __init__(self, layer: nn.Module, x: Tensor, out: Tensor, rows: Tensor) -> None:
        self.layer, self._x, self._wanted = layer, x, flat(out)

    def quantized(self, weight_bits: int, act_bits: int) -> float:
        """Return what is lost with so many bits: a share of the outputs' variance."""
        return self._loss(_quantized(self.layer, self._x, weight_bits, act_bits).forward(self._x))

    def without(self, channels: Any) -> float:
        """Return what is lost where some input channels are gone."""
        axis = 1 if isinstance(self.layer, nn.Conv2d) else -1
        # Its hook would look at it again.
        left = self._x.index_fill(axis, torch.as_tensor(channels), 0.0)
        return self._loss(self.layer.forward(left))

    def _loss(self, out: Tensor) -> float:
        error = (flat(out) - self._wanted).square().mean(0).sum()
        variance = self._wanted.var(0, correction=0).sum()
        return float(error / variance) if variance > 0 else 0.0


def _quantized(layer: nn.Module, x: Tensor, weight_bits: int, act_bits: int) -> QuantLayer:
    made = quantized(copy.deepcopy(layer), weight_bits, act_bits)
    made.clip_ratio.copy_(best_clip_ratio(made.weight, weight_bits))
    made.fit_range(thinned(x))
    return made


def _formats(asked: _Solved | _Kept, weight: float) -> dict[Kind, tuple[float, ...]]:
    try:
        return {
            "act": tuple(weight * asked.quantized(INT8_BITS, bits) for bits in BITS),
            "weight": tuple(weight * asked.quantized(bits, INT8_BITS) for bits in BITS),
            "int8": (weight * asked.quantized(INT8_BITS, INT8_BITS),),
        }
    except UnsupportedLayer:
        return {}


def _widths(
    network: nn.Module, group: ChannelGroup, asked: _Solved | _Kept, member: Member
) -> np.ndarray:
    """Return the loss of a reading layer for every sparsity of the group that it reads."""
    losses = []
    for setting in SPARSITIES:
        keep = max(round(group.width * (1 - setting.value)), 1)
        kept = np.isin(member.root, strongest(network, group, keep))
        losses.append(asked.without(member.local[~kept]) if not kept.all() else 0.0)
    return np.asarray(losses)
