"""Diagonal empirical Fisher information of every layer, by per-sample gradients; never trains.

HiReLC scores a block by its Fisher information (section 2.6 of the paper), summed over parameters
and from gradients of whole batches, so that big blocks look sensitive and opposite samples cancel.
Here every sample has a gradient of its own, on its true label, and a layer's figure is the mean
over its parameters.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from host.canonical import digest
from host.compress.finetune import evaluating
from host.data import Data
from host.identity import network_digest
from host.types import Graph

IMAGES = 64
FISHER_FORMAT = 1
# Gradients of all samples of a chunk exist at once: this many numbers at most (64 MB).
_CHUNK_NUMBERS = 2**24


@dataclass(frozen=True, eq=False)
class _Labelled:
    """Network inputs (N, C, H, W) and their true labels (N,)."""

    x: Tensor
    labels: Tensor


def fisher(
    module: nn.Module,
    graph: Graph,
    data: Data,
    *,
    images: int = IMAGES,
    cache_dir: Path | None = None,
) -> dict[str, float]:
    """Return by layer the mean over parameters of the mean over samples of squared gradients.

    The samples are un-augmented training images, the same ones each time; the loss is the cross
    entropy on true labels. Read from `cache_dir` where it is there.
    """
    samples = _samples(data, images)
    path = (
        cache_dir / f"fisher-{_identity(module, graph, data, samples)}.json" if cache_dir else None
    )
    if path and path.is_file():
        return {name: float(value) for name, value in json.loads(path.read_text()).items()}
    # What is not differentiated needs no graph; torch.func makes its own.
    with evaluating(module), torch.no_grad():
        values = _measure(module, graph, samples)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(values, indent=1))
        partial.replace(path)
    return values


def _samples(data: Data, count: int) -> _Labelled:
    chosen = data.calibration_split(count)
    return _Labelled(data.tensor(chosen.images), torch.from_numpy(chosen.labels))


def _measure(module: nn.Module, graph: Graph, samples: _Labelled) -> dict[str, float]:
    parameters = {
        layer.name: dict(module.get_submodule(layer.name).named_parameters(layer.name, False))
        for layer in graph.layers
    }
    every = {name: p.detach() for own in parameters.values() for name, p in own.items()}
    sums = {name: torch.zeros((), dtype=torch.float64) for name in every}
    chunk = max(_CHUNK_NUMBERS // _numbers(every), 1)
    for x, labels in zip(
        torch.split(samples.x, chunk), torch.split(samples.labels, chunk), strict=True
    ):
        for name, gradient in _per_sample(module, every, x, labels).items():
            sums[name] += gradient.double().square().sum()
    return {
        layer: float(sum(sums[name] for name in own)) / _numbers(own) / len(samples.labels)
        for layer, own in parameters.items()
    }


def _numbers(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def _per_sample(
    module: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Return every sample's gradients [samples, *parameter] of the cross entropy."""

    def loss(values: Mapping[str, Tensor], one: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(module, dict(values), (one[None],))
        return F.cross_entropy(logits, label[None])

    gradients = grad(loss)
    if len(labels) > 1:
        try:
            with warnings.catch_warnings():
                # Attention has no batched form of its own: its samples run one by one.
                warnings.filterwarnings("ignore", "There is a performance drop")
                together: dict[str, Tensor] = vmap(gradients, (None, 0, 0))(parameters, x, labels)
            return together
        except RuntimeError:
            # Some operations have no batched form (in-place ones, data-dependent ones).
            pass
    alone = [gradients(parameters, one, label) for one, label in zip(x, labels, strict=True)]
    return {name: torch.stack([each[name] for each in alone]) for name in parameters}


def _identity(module: nn.Module, graph: Graph, data: Data, samples: _Labelled) -> str:
    """Return the digest of all that the figures depend on."""
    seen = hashlib.sha256(samples.x.numpy().tobytes())
    seen.update(samples.labels.numpy().tobytes())
    layers = [layer.name for layer in graph.layers]
    parts = [FISHER_FORMAT, network_digest(module), data.name, seen.hexdigest(), layers]
    return digest(parts)[:32]
