"""Remove the channels that a policy does not keep; never trains, never touches the original."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray
from torch import nn

from host.compress.channels import sliced
from host.compress.plan import ChannelGroup, PruningPlan
from host.compress.pruners import PRUNERS, InputPower
from host.errors import PolicyError
from host.policy import L1, Policy


def prune(module: nn.Module, policy: Policy, plan: PruningPlan) -> nn.Module:
    """Return a smaller copy: every group keeps its strongest channels by its driver's pruner."""
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
        pruner = policy[group.driver].measure
        kept[group.driver] = strongest(module, group, keep, pruner, plan.input_power)
    return kept


def strongest(
    module: nn.Module,
    group: ChannelGroup,
    keep: int,
    pruner: str = L1,
    power: InputPower | None = None,
) -> NDArray[np.int64]:
    """Return the `keep` strongest channels of a group by a measure of `host.compress.pruners`."""
    if keep == group.width:
        return np.arange(group.width)
    strength = PRUNERS[pruner](module, group, power or {})
    order: NDArray[np.int64] = np.argsort(-strength, kind="stable")
    return np.sort(order[:keep])
