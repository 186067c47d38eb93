"""The networks that tracing, pruning and quantizing are tried on, and random legal policies."""

from __future__ import annotations

import numpy as np

from host.policy import Choice, Policy, Space
from host.types import Graph, Layer

NETWORKS = (
    ("digits-cnn", (1, 8, 8)),
    ("digits-vit", (1, 8, 8)),
    ("cifar-resnet20", (3, 32, 32)),
    ("resnet18-cifar", (3, 32, 32)),
    ("vgg16-cifar", (3, 32, 32)),
    ("timm:mobilenetv2_100", (3, 32, 32)),
    ("vit_tiny_patch16_224", (3, 32, 32)),
    ("convnext_atto", (3, 64, 64)),
    ("efficientnet_lite0", (3, 32, 32)),
)


def anything(layer: Layer, mode: str, weight_bits: int, act_bits: int) -> str | None:
    """Refuse nothing."""
    return None


def space_of(graph: Graph, round_to: int = 1) -> Space:
    """Return all policies that a network itself allows."""
    return Space(graph, anything, round_to=round_to)


def random_policy(graph: Graph, seed: int, modes: tuple[str, ...] = ("fp32",)) -> Policy:
    """Return a legal policy with random widths and number formats."""
    rng = np.random.default_rng(seed)
    choices = {
        layer.name: Choice(
            int(rng.integers(1, layer.out_channels + 1)),
            modes[rng.integers(len(modes))],
            int(rng.integers(1, 7)),
            int(rng.integers(1, 7)),
        )
        for layer in graph.layers
    }
    return space_of(graph).policy(choices)
