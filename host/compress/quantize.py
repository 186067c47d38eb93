"""Replace layers by quantized ones as a policy says, and calibrate them; never trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from host.compress.layers import QuantConv2d, QuantLayer, QuantLinear
from host.compress.patterns import keep_thin, kept_weights
from host.compress.ranges import best_clip_ratio
from host.errors import UnsupportedLayer
from host.policy import Policy

__all__ = [
    "QuantConv2d",
    "QuantLayer",
    "QuantLinear",
    "calibrate",
    "observing",
    "quant_layers",
    "quantize",
    "quantized",
]


def quantize(module: nn.Module, policy: Policy) -> nn.Module:
    """Replace in place, by name, the layers that a policy does not leave in fp32."""
    for p in policy.layers:
        if p.mode != "fp32":
            parent, _, name = p.layer.rpartition(".")
            layer = module.get_submodule(p.layer)
            replacement = quantized(layer, p.weight_bits, p.act_bits)
            keep_thin(replacement, kept_weights(layer))
            setattr(module.get_submodule(parent), name, replacement)
    return module


def quantized(layer: nn.Module, weight_bits: int, act_bits: int) -> QuantConv2d | QuantLinear:
    """Return the quantized layer that takes over the parameters of an ordinary one."""
    if type(layer) is nn.Linear:
        return QuantLinear.replacing(layer, weight_bits, act_bits)
    if type(layer) is nn.Conv2d and layer.padding_mode == "zeros":
        return QuantConv2d.replacing(layer, weight_bits, act_bits)
    raise UnsupportedLayer(f"{type(layer).__name__} cannot be quantized; leave it in fp32")


def quant_layers(module: nn.Module) -> dict[str, QuantLayer]:
    """Return the quantized layers of a network by name."""
    return {name: m for name, m in module.named_modules() if isinstance(m, QuantLayer)}


@contextmanager
def observing(module: nn.Module) -> Iterator[None]:
    """Set all clipping ratios, and let quantized layers fit their ranges to what runs through."""
    layers = quant_layers(module).values()
    for layer in layers:
        layer.clip_ratio.copy_(best_clip_ratio(layer.weight, layer.weight_bits))
        layer._seen = []
    try:
        with torch.no_grad():
            yield
    finally:
        for layer in layers:
            layer._seen = None


def calibrate(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set all clipping ratios and activation ranges; a layer sees what the ones before it send."""
    with observing(module):
        for batch in batches:
            module(batch)
