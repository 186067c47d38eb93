"""Remove the channels that a policy does not keep; never trains, never touches the original."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from host.compress.channels import sliced
from host.compress.plan import ChannelGroup, PruningPlan
from host.errors import PolicyError
from host.policy import Policy


def prune(module: nn.Module, policy: Policy, plan: PruningPlan) -> nn.Module:
    """Return a smaller copy: every group keeps its channels of largest L1 norm."""
    removed = plan.removed(kept_channels(module, policy, plan))
    return sliced(copy.deepcopy(module), removed)


def kept_channels(
    module: nn.Module, policy: Policy, plan: PruningPlan
) -> dict[str, NDArray[np.int64]]:
    """Return the channels that each driver keeps under a policy, ascending."""
    kept = {}
    for group in plan.groups:
        keep = policy[group.driver].keep
        if keep > group.width:
            raise PolicyError(f"{group.driver}: keep {keep} of {group.width} channels")
        kept[group.driver] = strongest(module, group, keep)
    return kept


def strongest(module: nn.Module, group: ChannelGroup, keep: int) -> NDArray[np.int64]:
    """Return the `keep` channels of a group with the largest L1 norm over all its layers."""
    if keep == group.width:
        return np.arange(group.width)
    order: NDArray[np.int64] = np.argsort(-l1_norms(module, group), kind="stable")
    return np.sort(order[:keep])


def l1_norms(module: nn.Module, group: ChannelGroup) -> NDArray[np.float64]:
    """Return the sum of absolute weights that produce each channel of a group: (width,) float64."""
    norms = np.zeros(group.width)
    for member in group.members:
        layer = module.get_submodule(member.module)
        if member.side == "out" and isinstance(layer, nn.Conv2d | nn.Linear):
            with torch.no_grad():
                rows = layer.weight.abs().flatten(1).sum(1).double().numpy()
            np.add.at(norms, member.root, rows[member.local])
    return norms
