"""From a torch network to its graph of layers and channel groups; never changes the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from host.compress.channels import is_depthwise
from host.compress.plan import Member, PruningPlan, extract_plan
from host.errors import UnsupportedLayer
from host.types import Graph, Layer, Source

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class _Call:
    """A layer as it was executed: its output size (height, width) or (1, tokens)."""

    layer: nn.Conv2d | nn.Linear
    out_size: tuple[int, int]


def trace(module: nn.Module, name: str, input_shape: Shape, classes: int) -> Graph:
    """Return the layers of a network in order of execution, with sizes and channel groups."""
    return trace_with_plan(module, name, input_shape, classes)[0]


def trace_unpruned(module: nn.Module, name: str, input_shape: Shape, classes: int) -> Graph:
    """Return the layers without channel groups, for programs whose widths never change.

    Groups are proven by slicing the network, which takes minutes on one of many blocks.
    """
    calls = _execute(module, _example(input_shape))
    layers = tuple(_layer(layer, call, PruningPlan(())) for layer, call in calls.items())
    return Graph(name, input_shape, classes, layers)


def trace_with_plan(
    module: nn.Module, name: str, input_shape: Shape, classes: int
) -> tuple[Graph, PruningPlan]:
    """Return the graph and the pruning plan that its groups come from."""
    example = _example(input_shape)
    calls = _execute(module, example)
    plan = extract_plan(module, list(calls), example)
    layers = tuple(_layer(layer, call, plan) for layer, call in calls.items())
    return Graph(name, input_shape, classes, layers), plan


def _example(input_shape: Shape) -> Tensor:
    return torch.randn(1, *input_shape, generator=torch.Generator().manual_seed(0))


def _execute(module: nn.Module, example: Tensor) -> dict[str, _Call]:
    calls: dict[str, _Call] = {}
    handles = [
        layer.register_forward_hook(_recorder(name, calls))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    was_training = module.training
    try:
        with torch.no_grad():
            module.eval()(example)
    except RuntimeError as e:
        shape = tuple(example.shape[1:])
        why = str(e).strip().partition("\n")[0]
        raise UnsupportedLayer(f"the network does not take images of {shape}: {why}") from e
    finally:
        module.train(was_training)
        for handle in handles:
            handle.remove()
    return calls


def _recorder(name: str, calls: dict[str, _Call]) -> Callable[[nn.Module, object, Tensor], None]:
    def record(layer: nn.Module, _: object, out: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        if name in calls:
            raise UnsupportedLayer(f"{name} is used twice; a layer needs weights of its own")
        sizes = out.shape[2:] if isinstance(layer, nn.Conv2d) else out.shape[1:-1]
        height, width = (1, 1, *sizes)[-2:]
        calls[name] = _Call(layer, (height, width))

    return record


def _layer(name: str, call: _Call, plan: PruningPlan) -> Layer:
    layer = call.layer
    conv = layer if isinstance(layer, nn.Conv2d) else None
    out_channels, in_channels = layer.weight.shape[:2]
    in_channels = conv.in_channels if conv else in_channels
    return Layer(
        name=name,
        kind="conv" if conv else "linear",
        in_channels=in_channels,
        out_channels=out_channels,
        kernel=_pair(conv.kernel_size) if conv else (1, 1),
        stride=_pair(conv.stride) if conv else (1, 1),
        padding=_padding(conv) if conv else (0, 0),
        groups=conv.groups if conv else 1,
        out_size=call.out_size,
        params=sum(p.numel() for p in layer.parameters(recurse=False)),
        group=next((driver for driver, m in _members(name, plan) if m.side == "out"), ""),
        sources=_sources(name, layer, in_channels, plan),
    )


def _members(name: str, plan: PruningPlan) -> list[tuple[str, Member]]:
    return [(g.driver, m) for g in plan.groups for m in g.members if m.module == name]


def _sources(name: str, layer: nn.Module, width: int, plan: PruningPlan) -> tuple[Source, ...]:
    """Say where the input channels come from, in order; a depthwise layer reads its own group."""
    owner = np.full(width, "", dtype=object)
    side = "out" if is_depthwise(layer) else "in"
    for driver, member in _members(name, plan):
        if member.side == side:
            owner[member.local] = driver
    counts = Counter(owner.tolist())  # keeps the order of first appearance
    return tuple(Source(group, channels) for group, channels in counts.items())


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return values[0], values[1]


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    if layer.padding == "valid":
        return 0, 0
    if isinstance(layer.padding, str):  # "same"
        height, width = (
            d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)
        )
        return height, width
    return _pair(layer.padding)
