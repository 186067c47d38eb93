"""Fine-grained pruning: which single weights of a layer go, by pattern; widths stay.

A pattern sees the weights of a layer as [outputs, weights of one output] and returns which stay. An
output never loses all of its weights, and how many stay follows from sizes alone (host.sparsity).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from host.canonical import seed_of_name
from host.policy import BLOCK, Policy
from host.registry import Registry
from host.sparsity import BLOCK_OUTPUTS, RUN, RUN_KEPT, TWO_OF_FOUR, count_of

Floats = NDArray[np.float64]
Kept = NDArray[np.bool_]
# (magnitudes [outputs, unknowns], share that goes, generator) -> which stay
Pattern = Callable[[Floats, float, np.random.Generator], Kept]

PATTERNS: Registry[Pattern] = Registry("pattern")
MAGNITUDE = "magnitude"


@PATTERNS.register(MAGNITUDE)
def magnitude(weights: Floats, share: float, rng: np.random.Generator) -> Kept:
    """The smallest weights of the layer go (Han et al. 2015)."""
    return _largest(weights, share)


@PATTERNS.register("random")
def random(weights: Floats, share: float, rng: np.random.Generator) -> Kept:
    """Chance alone."""
    return _largest(rng.random(weights.shape), share)


@PATTERNS.register(BLOCK)
def block(weights: Floats, share: float, rng: np.random.Generator) -> Kept:
    """Blocks of four neighbouring outputs, one weight of each, go together: 4 x 1, for NEON."""
    outputs, unknowns = weights.shape
    blocks = -(-outputs // BLOCK_OUTPUTS)
    padded = np.zeros((blocks * BLOCK_OUTPUTS, unknowns))
    padded[:outputs] = weights
    kept = _largest(padded.reshape(blocks, BLOCK_OUTPUTS, unknowns).sum(1), share)
    return np.repeat(kept, BLOCK_OUTPUTS, 0)[:outputs]


@PATTERNS.register(TWO_OF_FOUR)
def two_of_four(weights: Floats, share: float, rng: np.random.Generator) -> Kept:
    """Of every four weights in a row the two largest stay, whatever the share."""
    outputs, unknowns = weights.shape
    runs = -(-unknowns // RUN)
    padded = np.full((outputs, runs * RUN), -1.0)
    padded[:, :unknowns] = weights
    order = np.argsort(-padded.reshape(outputs, runs, RUN), axis=2, kind="stable")
    kept = np.zeros((outputs, runs, RUN), dtype=bool)
    np.put_along_axis(kept, order[:, :, :RUN_KEPT], True, 2)
    return kept.reshape(outputs, -1)[:, :unknowns]


def _largest(scores: Floats, share: float) -> Kept:
    """Keep the largest of every row [rows, columns], then the largest until a share has gone."""
    rows, columns = scores.shape
    ranked = scores.copy()
    ranked[np.arange(rows), columns - 1 - scores[:, ::-1].argmax(1)] = np.inf
    kept = np.zeros(scores.shape, dtype=bool)
    order = np.argsort(ranked, axis=None, kind="stable")
    kept.flat[order[-count_of(rows, columns, share) :]] = True
    return kept


def thin(network: nn.Module, policy: Policy) -> nn.Module:
    """Zero the weights that a policy removes from a network in place, and return it.

    What stays is remembered beside the weights (`kept_weights`), so that neither solving nor
    training brings a weight back.
    """
    for form in policy.layers:
        if form.zeros:
            layer = network.get_submodule(form.layer)
            kept = which(layer, form.pruner, form.zeros / 100, form.layer)
            keep_thin(layer, kept)
            weight: Tensor = layer.weight  # type: ignore[assignment]
            weight.data.mul_(kept)
    return network


def keep_thin(layer: nn.Module, kept: Tensor | None) -> None:
    """Let a layer remember which of its weights stay; None for a dense one."""
    if kept is not None:
        layer.register_buffer("kept_weights", kept, persistent=False)


def which(layer: nn.Module, pattern: str, share: float, name: str) -> Tensor:
    """Return which weights of a layer stay, shaped as they are; `name` seeds what is random."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    magnitudes = weight.detach().abs()
    rng = np.random.default_rng(seed_of_name(name))
    kept = PATTERNS[pattern](magnitudes.flatten(1).double().numpy(), share, rng)
    return torch.from_numpy(kept).view(magnitudes.shape)


def kept_weights(layer: nn.Module) -> Tensor | None:
    """Return which weights of a layer stay; None for a dense one."""
    found: Tensor | None = getattr(layer, "kept_weights", None)
    return found
