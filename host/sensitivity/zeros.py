"""How many inputs of each layer are zero: what an accelerator with gates need not multiply."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from host.compress.finetune import evaluating

IMAGES = 64


def input_zeros(module: nn.Module, layers: Sequence[str], images: Tensor) -> dict[str, float]:
    """Run a network over the first 64 images and return the share of zeros in layers' inputs."""
    found: dict[str, float] = {}

    def listen(name: str, _at: nn.Module, inputs: tuple[Tensor, ...], _out: Tensor) -> None:
        found[name] = float((inputs[0] == 0).double().mean())

    with ExitStack() as hooks, evaluating(module), torch.inference_mode():
        for name in layers:
            hook = module.get_submodule(name).register_forward_hook(partial(listen, name))
            hooks.callback(hook.remove)
        module(images[:IMAGES])
    return found
