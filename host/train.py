"""Train a network by name from scratch; the best epoch by validation wins, test is never read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from host.compress.finetune import Progress, Training, finetune
from host.data import Data
from host.models import make_network

# From scratch on 40,000 images of 32x32: Galen's pre-training has neither warm-up nor smoothing.
CIFAR = Training(
    epochs=100,
    lr=0.2,
    nesterov=True,
    warmup=0.15,
    label_smoothing=0.1,
    keep_best=True,
    half=None,
)
# From about a million parameters on a network learns 40,000 images by heart.
CIFAR_LARGE = replace(CIFAR, cutout_px=8)
CIFAR_TRANSFORMER = replace(
    CIFAR_LARGE, epochs=200, optimizer="adamw", lr=1e-3, weight_decay=0.1, warmup=0.1
)
SMALL = Training(epochs=30, batch_size=64, lr=0.1, weight_decay=5e-4, warmup=0.15, keep_best=True)
TRANSFORMER = Training(
    epochs=80,
    batch_size=64,
    optimizer="adamw",
    lr=3e-3,
    weight_decay=0.05,
    warmup=0.1,
    keep_best=True,
)
_SMALL_IMAGES = 5000
_LARGE_PARAMETERS = 1_000_000


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and its accuracy on the validation split, a fraction."""

    network: nn.Module
    validation: float


def default_training(network: str, data: Data) -> Training:
    """Return how a network is trained where the caller does not say."""
    few = len(data.train) < _SMALL_IMAGES
    if "vit" in network or "deit" in network:
        return TRANSFORMER if few else CIFAR_TRANSFORMER
    if few:
        return SMALL
    module = make_network(network, classes=data.classes, input_shape=data.input_shape)
    return CIFAR_LARGE if _parameters(module) >= _LARGE_PARAMETERS else CIFAR


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def train(
    network: str,
    data: Data,
    *,
    training: Training | None = None,
    seed: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
) -> Trained:
    """Train a network from random weights; the same seed gives the same weights."""
    module = make_network(network, classes=data.classes, input_shape=data.input_shape, seed=seed)
    best = finetune(
        module,
        data,
        training or default_training(network, data),
        generator=torch.Generator().manual_seed(seed),
        on_progress=on_progress,
    )
    return Trained(module, best if best is not None else float("nan"))
