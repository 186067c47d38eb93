"""Which channels of which modules go together: extracted once per network, used for every policy.

torch-pruning's dependency graph proposes the groups; a group counts only if slicing it gives what
zeroing it gives, so option-A shortcuts, attention heads, class scores and layer norms drop out.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from host.compress.channels import Side, is_depthwise, sliced, zeroed
from host.torchvision_shim import ensure_torchvision

Index = NDArray[np.int64]
_TOLERANCE_RATIO = 1e-3  # of the largest output; a wrong group differs by the outputs' own size
_CHECK_SEED = 0


@dataclass(frozen=True, eq=False)
class Member:
    """Channels `local` of one side of a module; channel `local[i]` follows channel `root[i]`."""

    module: str
    side: Side
    local: Index
    root: Index


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that can only be removed together, named after their first layer, the driver."""

    driver: str
    width: int
    members: tuple[Member, ...]


@dataclass(frozen=True, eq=False)
class PruningPlan:
    """The prunable groups of a network in order of execution.

    `input_power[layer]` is the mean square of each input channel, where a pruner needs it.
    """

    groups: tuple[ChannelGroup, ...]
    input_power: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __getitem__(self, driver: str) -> ChannelGroup:
        for group in self.groups:
            if group.driver == driver:
                return group
        raise KeyError(driver)

    def removed(self, kept: Mapping[str, Index]) -> dict[tuple[str, Side], Index]:
        """Map what each driver keeps to the channels that go, per module and side."""
        gone: dict[tuple[str, Side], list[Index]] = {}
        for driver, channels in kept.items():
            group = self[driver]
            stays = np.zeros(group.width, bool)
            stays[channels] = True
            for member in group.members:
                local = member.local[~stays[member.root]]
                gone.setdefault((member.module, member.side), []).append(local)
        return {key: np.sort(np.concatenate(parts)) for key, parts in gone.items()}


def extract_plan(module: nn.Module, layers: Sequence[str], example: Tensor) -> PruningPlan:
    """Find the prunable groups of a network whose `layers` are given in order of execution."""
    network = copy.deepcopy(module).eval()
    order = {name: place for place, name in enumerate(layers)}
    found = [g for g in _proposals(network, order, example) if _plain(network, g)]
    found.sort(key=lambda group: order[group.driver])
    _shake(network)
    if not _slices_exactly(network, found, example):
        found = [group for group in found if _slices_exactly(network, [group], example)]
    return PruningPlan(tuple(found))


def _proposals(
    network: nn.Module, order: Mapping[str, int], example: Tensor
) -> Iterable[ChannelGroup]:
    ensure_torchvision()
    import torch_pruning

    for parameter in network.parameters():
        parameter.requires_grad_(True)
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(network, example)
        for group in graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]):
            proposal = _read(graph, group, {m: n for n, m in network.named_modules()}, order)
            if proposal is not None:
                yield proposal


def _read(
    graph: Any, group: Any, names: Mapping[nn.Module, str], order: Mapping[str, int]
) -> ChannelGroup | None:
    """Turn torch-pruning's group into ours; None where it holds a bare parameter."""
    members = []
    for item in group:
        target = item.dep.target.module
        if isinstance(target, nn.Parameter):
            return None
        if target not in names:  # torch-pruning's stand-ins for element-wise operations
            continue
        out = is_depthwise(target) or graph.is_out_channel_pruning_fn(item.dep.handler)
        side: Literal["out", "in"] = "out" if out else "in"
        local, root = np.asarray(item.idxs, np.int64), np.asarray(item.root_idxs, np.int64)
        members.append(Member(names[target], side, local, root))
    drivers = [m for m in members if m.side == "out" and m.module in order]
    if not drivers:
        return None
    driver = min(drivers, key=lambda m: order[m.module])
    return _rooted(driver, members)


def _rooted(driver: Member, members: Sequence[Member]) -> ChannelGroup:
    """Number the group's channels by those of its driver."""
    renumber = np.zeros(int(max(m.root.max() for m in members)) + 1, np.int64)
    renumber[driver.root] = driver.local
    return ChannelGroup(
        driver.module,
        len(driver.local),
        tuple(Member(m.module, m.side, m.local, renumber[m.root]) for m in members),
    )


def _plain(network: nn.Module, group: ChannelGroup) -> bool:
    """Whether all members are layers that can be sliced and carry every channel equally often."""
    for member in group.members:
        module = network.get_submodule(member.module)
        if isinstance(module, nn.Conv2d):
            if module.groups > 1 and not is_depthwise(module):
                return False
        elif not isinstance(module, nn.Linear | nn.BatchNorm2d) or module.weight is None:
            return False
        counts = np.bincount(member.root, minlength=group.width)
        if len(counts) != group.width or counts.min() != counts.max():
            return False
        width = module.weight.shape[1 if member.side == "in" else 0]
        if member.local.max() >= width:  # seen where a concatenation is flattened
            return False
        if member.side == "out" and len(member.local) != width:
            return False
    return True


def _shake(network: nn.Module) -> None:
    """Give constant parameters (norms, zeroed branches) values that tell channels apart."""
    generator = torch.Generator().manual_seed(_CHECK_SEED)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() > 1 and parameter.max() == parameter.min():
                parameter.uniform_(0.5, 1.5, generator=generator)


def _slices_exactly(network: nn.Module, groups: Sequence[ChannelGroup], example: Tensor) -> bool:
    rng = np.random.default_rng(_CHECK_SEED)
    half = {g.driver: np.sort(rng.permutation(g.width)[: (g.width + 1) // 2]) for g in groups}
    removed = PruningPlan(tuple(groups)).removed(half)
    with torch.no_grad():
        expected: Tensor = zeroed(copy.deepcopy(network), removed)(example)
        try:
            got: Tensor = sliced(copy.deepcopy(network), removed)(example)
        except RuntimeError:  # shapes no longer fit: that is what a wrong group looks like
            return False
    if got.shape != expected.shape:
        return False
    bound = _TOLERANCE_RATIO * float(expected.abs().max())
    return bool((got - expected).abs().max() <= bound)
