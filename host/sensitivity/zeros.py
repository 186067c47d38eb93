"""How many inputs of each layer are zero: what an accelerator with gates need not multiply."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from host.compress.listening import listening

IMAGES = 64


def input_zeros(module: nn.Module, layers: Sequence[str], images: Tensor) -> dict[str, float]:
    """Run a network over the first 64 images and return the share of zeros in layers' inputs."""
    found: dict[str, float] = {}

    def count(name: str, _at: nn.Module, inputs: tuple[Tensor, ...], _out: Tensor) -> None:
        found[name] = float((inputs[0] == 0).double().mean())

    with listening(module, layers, count), torch.inference_mode():
        module(images[:IMAGES])
    return found
