"""Train a network by name from scratch; the best epoch by validation wins, test is never read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from host.compress.finetune import Progress, Training, finetune
from host.data import Data
from host.models import make_network

# From scratch on 40,000 images of 32x32 (Galen's pre-training).
CIFAR = Training(epochs=100, lr=0.05, momentum=0.9, weight_decay=5e-4, keep_best=True)
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


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and its accuracy on the validation split, a fraction."""

    network: nn.Module
    validation: float


def default_training(network: str, data: Data) -> Training:
    """Return how a network is trained where the caller does not say."""
    if "vit" in network or "deit" in network:
        return TRANSFORMER
    return SMALL if len(data.train) < 5000 else CIFAR


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
