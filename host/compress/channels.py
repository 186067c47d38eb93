"""Remove or zero channels of convolutions, linear layers and batch norms; never decides which."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
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


def spread(small: nn.Module, whole: nn.Module, removed: Removed) -> nn.Module:
    """Return a copy of a whole network that computes what its sliced copy does, zeros elsewhere."""
    network = zeroed(copy.deepcopy(whole), removed)
    with torch.no_grad():
        for name, module in network.named_modules():
            source = small.get_submodule(name)
            gone = [removed.get((name, side), np.zeros(0, np.int64)) for side in ("out", "in")]
            for label, target in _tensors(module):
                value = getattr(source, label)
                places = [
                    _complement(channels, width)
                    for channels, width in zip(gone, target.shape, strict=False)
                ]
                _put(target, places, value)
    return network


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield a module's own tensors that are saved with it."""
    yield from module.named_parameters(recurse=False)
    for label, tensor in module.named_buffers(recurse=False):
        if label not in module._non_persistent_buffers_set:
            yield label, tensor


def _put(target: Tensor, places: Sequence[Tensor], value: Tensor) -> None:
    if not places:
        target.copy_(value)
    elif len(places) == 1:
        target[places[0]] = value
    else:
        target[places[0][:, None], places[1]] = value


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
    old = getattr(module, name, None)
    if old is None:
        return
    new = old.detach().index_select(dim, index)
    if isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(new, requires_grad=old.requires_grad))
    else:
        setattr(module, name, new)
