"""Remove or zero channels of convolutions, linear layers and batch norms; never decides which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Side = Literal["out", "in"]
Removed = Mapping[tuple[str, Side], NDArray[np.int64]]

_NORM_STATE = ("weight", "bias", "running_mean", "running_var")


def is_depthwise(module: nn.Module) -> bool:
    """Whether this is a convolution of every channel with itself alone."""
    return (
        isinstance(module, nn.Conv2d)
        and module.groups > 1
        and module.groups == module.in_channels == module.out_channels
    )


def sliced(network: nn.Module, removed: Removed) -> nn.Module:
    """Cut these channels out of a network in place, and return it."""
    for (name, side), channels in removed.items():
        if len(channels):
            _slice(network.get_submodule(name), side, channels)
    return network


def zeroed(network: nn.Module, removed: Removed) -> nn.Module:
    """Set everything of these channels to zero in place, and return the network."""
    for (name, side), channels in removed.items():
        zero_channels(network.get_submodule(name), side, channels)
    return network


def zero_channels(module: nn.Module, side: Side, channels: NDArray[np.int64]) -> None:
    """Set the weights (and, on the output side, biases) of these channels to zero in place."""
    index = torch.from_numpy(channels)
    with torch.no_grad():
        if isinstance(module.weight, Tensor):
            module.weight.index_fill_(1 if side == "in" else 0, index, 0.0)
        if isinstance(module.bias, Tensor) and side == "out":
            module.bias.index_fill_(0, index, 0.0)


def _slice(module: nn.Module, side: Side, channels: NDArray[np.int64]) -> None:
    if isinstance(module, nn.BatchNorm2d):
        stay = _complement(channels, module.num_features)
        for name in _NORM_STATE:
            _select(module, name, 0, stay)
        module.num_features = len(stay)
        return
    assert isinstance(module, nn.Conv2d | nn.Linear)
    dim = 0 if side == "out" else 1
    stay = _complement(channels, module.weight.shape[dim])
    _select(module, "weight", dim, stay)
    if side == "out":
        _select(module, "bias", 0, stay)
    _set_width(module, side, len(stay))


def _set_width(module: nn.Conv2d | nn.Linear, side: Side, width: int) -> None:
    if isinstance(module, nn.Linear):
        setattr(module, f"{side}_features", width)
        return
    if is_depthwise(module):
        module.groups = module.in_channels = width
    setattr(module, f"{side}_channels", width)


def _complement(channels: NDArray[np.int64], width: int) -> Tensor:
    stay = np.ones(width, bool)
    stay[channels] = False
    return torch.from_numpy(np.flatnonzero(stay))


def _select(module: nn.Module, name: str, dim: int, index: Tensor) -> None:
    old = getattr(module, name)
    if old is None:
        return
    new = old.detach().index_select(dim, index)
    if isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(new, requires_grad=old.requires_grad))
    else:
        setattr(module, name, new)
