"""Variational pruning: which weights a network holds so loosely that it can do without them.

Every weight is multiplied by Gaussian noise of mean 1 whose variance alpha is learned: as much as
the loss bears, and more where nothing speaks against it (information dropout; Molchanov et al.
2017, arXiv 1701.05369, their approximation of the divergence from a log-uniform prior). The weights
themselves stay as they are: noise is asked of the network that is to be pruned.

Of a trained network the prior alone would have all weights go: its divergence is a sum over
millions of weights, against one loss. So how far noise gets in the steps it is given says how many
weights of each layer bear it sooner than others, and what the network loses says how many go in all
(`bearable`). Which ones of a layer is for its smallest weights to say: in the order of their noise
more is lost, on every network tried (docs/results.md).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from host.compress.listening import listening
from host.data import Data

# Of the divergence's approximation (eq. 14).
_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695
# Weights of no size have noise of some size.
_LEAST_SQUARE = 1e-16
# How often `bearable` halves what is in question: to the 256th part of all weights.
HALVINGS = 8
# An output keeps one weight at least (host.compress.patterns).
_MOST_PER_CENT = 99


@dataclass(frozen=True, slots=True)
class NoiseLearning:
    """How noise is learned: Adam on the logarithms of its variances.

    Those of a layer start alike, `start` below that of its mean squared weight, so that small
    weights bear more noise from the beginning.
    """

    steps: int = 150
    batch_size: int = 64
    lr: float = 0.1
    start: float = -8.0
    seed: int = 0


def learn_noise(
    module: nn.Module, layers: Sequence[str], data: Data, how: NoiseLearning | None = None
) -> Iterator[dict[str, Tensor]]:
    """Learn log alpha of every weight, and yield them step by step, shaped as the weights are.

    The network itself is left as it is.
    """
    how = how or NoiseLearning()
    generator = torch.Generator().manual_seed(how.seed)
    size = min(how.batch_size, len(data.train))
    batches = (
        batch
        for _ in itertools.count()
        for batch in data.batches("train", size, generator=generator)
    )
    chosen = itertools.islice(batches, how.steps)
    yield from noise(module, layers, chosen, len(data.train), how, generator)


def noise(
    module: nn.Module,
    layers: Sequence[str],
    batches: Iterable[tuple[Tensor, Tensor]],
    images: int,
    how: NoiseLearning,
    generator: torch.Generator,
) -> Iterator[dict[str, Tensor]]:
    """Yield log alpha after every batch of (inputs, labels), of `images` in all."""
    squares = {name: _weight(module, name).detach().square() for name in layers}
    squares = {name: square.clamp_min(_LEAST_SQUARE) for name, square in squares.items()}
    spread = {
        name: torch.full_like(square, math.log(float(square.mean())) + how.start).requires_grad_()
        for name, square in squares.items()
    }
    optimizer = torch.optim.Adam(spread.values(), how.lr)
    frozen = [(p, p.requires_grad) for p in module.parameters()]
    with listening(module, layers, _noisy(spread, generator)):
        for parameter, _ in frozen:
            parameter.requires_grad_(False)
        try:
            for x, labels in batches:
                loss = F.cross_entropy(module(x), labels)
                prior = sum(_divergence(spread[n] - squares[n].log()) for n in layers)
                optimizer.zero_grad(set_to_none=True)
                (loss + prior / images).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                yield {n: (spread[n] - squares[n].log()).detach() for n in layers}
        finally:
            for parameter, wanted in frozen:
                parameter.requires_grad_(wanted)


def _divergence(log_alpha: Tensor) -> Tensor:
    """Return the divergence of all weights from the prior, up to a constant."""
    kept = _K1 * torch.sigmoid(_K2 + _K3 * log_alpha) - 0.5 * F.softplus(-log_alpha)
    return (_K1 - kept).sum()


def _noisy(
    spread: Mapping[str, Tensor], generator: torch.Generator
) -> Callable[[str, nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """Return what answers with noise: outputs are drawn, not weights (local reparametrisation)."""

    def disturb(name: str, at: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        variance = _variance(at, inputs[0].square(), spread[name].exp())
        drawn = torch.randn(out.shape, generator=generator)
        return out + drawn * (variance + 1e-12).sqrt()

    return disturb


def _variance(layer: nn.Module, squares: Tensor, variances: Tensor) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        way: Any = (layer.stride, layer.padding, layer.dilation, layer.groups)
        return F.conv2d(squares, variances, None, *way)
    return F.linear(squares, variances)


def _weight(module: nn.Module, layer: str) -> Tensor:
    weight: Tensor = module.get_submodule(layer).weight  # type: ignore[assignment]
    return weight


def bearable(
    log_alpha: Mapping[str, Tensor], lost: Callable[[Mapping[str, int]], float], most: float
) -> dict[str, int]:
    """Return by layer how many per cent of the weights can go for a loss of `most` at most.

    Weights go in the order of their noise over all layers; `lost` says what such shares cost.
    """
    ranked = np.sort(np.concatenate([values.numpy().ravel() for values in log_alpha.values()]))
    found, fewest, gone = dict.fromkeys(log_alpha, 0), 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (fewest + gone) / 2
        shares = _looser_than(log_alpha, float(ranked[int((1 - middle) * len(ranked))]))
        if lost(shares) <= most:
            found, fewest = shares, middle
        else:
            gone = middle
    return found


def _looser_than(log_alpha: Mapping[str, Tensor], limit: float) -> dict[str, int]:
    """Return by layer how many per cent of the weights bear so much noise."""
    shares = {name: float((values >= limit).double().mean()) for name, values in log_alpha.items()}
    return {name: min(int(100 * share), _MOST_PER_CENT) for name, share in shares.items()}
