"""How far an error in a layer's outputs reaches: what it moves of the network's logits.

An error that is the same share of every channel's variance, different at every position, moves the
logits by the squared derivatives of the logits times these variances (Gauss and Newton's
approximation, as in optimal brain surgeon; Hassibi and Stork 1993). Random directions of the logits
stand for all of them. Labels are not read and no weight is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from host.compress.listening import listening
from host.compress.reconstruct import flat

IMAGES, BATCH_IMAGES = 64, 16
DIRECTIONS = 4
_SEED = 0
# Large errors of many layers do not add up as small ones of one: between "as far as it reaches" (1)
# and "all layers alike" (0), as measured on ResNet-20 and ResNet-56 (docs/results.md).
POWER = 0.5


def weights(module: nn.Module, layers: Sequence[str], images: Tensor) -> dict[str, float]:
    """Return how much an error of each layer weighs against that of another."""
    found = influence(module, layers, images)
    return {layer: value**POWER for layer, value in found.items()}


def influence(module: nn.Module, layers: Sequence[str], images: Tensor) -> dict[str, float]:
    """Return by layer which share of the logits' variance moves with its outputs' whole variance.

    `images` are network inputs (N, C, H, W), of which the first 64 are used. It is 1 for the last
    layer, and may be more than that elsewhere; 0 where the logits do not depend on a layer.
    """
    sums = dict.fromkeys(layers, 0.0)
    generator = torch.Generator().manual_seed(_SEED)
    logits: list[Tensor] = []

    def hear(layer: str, _at: nn.Module, _inputs: Any, out: Tensor) -> None:
        # Here, since what follows may change the outputs in place.
        variances = flat(out.detach()).var(0, correction=0)
        out.register_hook(partial(add, layer, variances))  # type: ignore[no-untyped-call]

    def add(layer: str, variances: Tensor, gradient: Tensor) -> None:
        sums[layer] += float(flat(gradient).square().sum(0) @ variances)

    with listening(module, layers, hear), torch.enable_grad():
        for batch in torch.split(images[:IMAGES], BATCH_IMAGES):
            x = batch.clone().requires_grad_()
            out = module(x)
            logits.append(out.detach())
            for _ in range(DIRECTIONS):
                direction = torch.randn(out.shape, generator=generator)
                torch.autograd.grad(out, x, direction, retain_graph=True)
    together = torch.cat(logits)
    scale = DIRECTIONS * len(together) * float(together.var(0, correction=0).sum())
    return {layer: total / scale if scale > 0 else 0.0 for layer, total in sums.items()}
