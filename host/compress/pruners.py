"""How strong the channels of a group are, by several measures; the weakest are removed.

A measure sees all layers that make the channels, and for `reconstruction` those that read them too.
Residual connections and other couplings are in the groups, so that no measure knows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from host.canonical import seed_of_name
from host.compress.listening import listening
from host.compress.plan import ChannelGroup, Member
from host.errors import PolicyError
from host.policy import L1
from host.registry import Registry

Floats = NDArray[np.float64]
# Layer -> mean square of each input channel over calibration images.
InputPower = Mapping[str, Floats]
# (network, group, power of inputs) -> strength of each channel: (width,)
Measure = Callable[[nn.Module, ChannelGroup, InputPower], Floats]

PRUNERS: Registry[Measure] = Registry("pruner")
RECONSTRUCTION = "reconstruction"


@PRUNERS.register(L1)
def l1(module: nn.Module, group: ChannelGroup, power: InputPower) -> Floats:
    """Sum of absolute weights (Li et al. 2017)."""
    return _sum(module, group, lambda rows: rows.abs().sum(1))


@PRUNERS.register("l2")
def l2(module: nn.Module, group: ChannelGroup, power: InputPower) -> Floats:
    """Root of the sum of squared weights."""
    return np.sqrt(_sum(module, group, lambda rows: rows.square().sum(1)))


@PRUNERS.register("bernoulli")
def bernoulli(module: nn.Module, group: ChannelGroup, power: InputPower) -> Floats:
    """Chance alone, the same for a group at all times: what every other measure must beat."""
    return np.random.default_rng(seed_of_name(group.driver)).random(group.width)


@PRUNERS.register("median")
def median(module: nn.Module, group: ChannelGroup, power: InputPower) -> Floats:
    """Distance from all other channels: what lies near their geometric median can be replaced.

    He et al. 2019, arXiv 1811.00250, with the filters of all layers of the group put together.
    """
    parts = []
    for member, rows in _makers(module, group):
        placed = np.zeros((group.width, rows.shape[1]))
        np.add.at(placed, member.root, rows.double().numpy()[member.local])
        parts.append(placed)
    if not parts:
        return np.zeros(group.width)
    filters = np.concatenate(parts, 1)
    squares = np.square(filters).sum(1)
    apart = squares[:, None] + squares[None] - 2 * filters @ filters.T
    return np.asarray(np.sqrt(np.maximum(apart, 0.0)).sum(1), dtype=np.float64)


@PRUNERS.register(RECONSTRUCTION)
def reconstruction(module: nn.Module, group: ChannelGroup, power: InputPower) -> Floats:
    """What the layers that read a channel lose without it: its power times its squared weights.

    The diagonal of the error that He et al. 2017 (arXiv 1707.06168) minimise over feature maps.
    Raises PolicyError where the power of the inputs of a reading layer is not known.
    """
    strength = np.zeros(group.width)
    for member in group.members:
        layer = module.get_submodule(member.module)
        if member.side != "in" or not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if member.module not in power:
            raise PolicyError(
                f"{group.driver}: pruner {RECONSTRUCTION} needs calibration images, and none were "
                "given"
            )
        with torch.no_grad():
            columns = layer.weight.transpose(0, 1).flatten(1).square().sum(1).double().numpy()
        lost = columns[member.local] * power[member.module][member.local]
        np.add.at(strength, member.root, lost)
    return strength


def _sum(module: nn.Module, group: ChannelGroup, figure: Callable[[Tensor], Tensor]) -> Floats:
    """Return a figure of the weights [channels, ...] that make each channel, over all layers."""
    total = np.zeros(group.width)
    for member, rows in _makers(module, group):
        np.add.at(total, member.root, figure(rows).double().numpy()[member.local])
    return total


def _makers(module: nn.Module, group: ChannelGroup) -> Iterator[tuple[Member, Tensor]]:
    """Yield the layers that make the channels of a group, with their weights: [channels, ...]."""
    for member in group.members:
        layer = module.get_submodule(member.module)
        if member.side == "out" and isinstance(layer, nn.Conv2d | nn.Linear):
            yield member, layer.weight.detach().flatten(1)


def input_power(module: nn.Module, layers: Sequence[str], images: Tensor) -> dict[str, Floats]:
    """Run a network over images and return the mean square of each layer's input channels."""
    found: dict[str, Floats] = {}

    def hear(name: str, _at: nn.Module, inputs: tuple[Tensor, ...], _out: Tensor) -> None:
        x = inputs[0].double()
        channel = 1 if x.ndim == 4 else x.ndim - 1
        found[name] = x.square().mean([d for d in range(x.ndim) if d != channel]).numpy()

    with listening(module, layers, hear), torch.inference_mode():
        module(images)
    return found
