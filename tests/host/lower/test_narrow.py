"""A narrowed program is the one that a trace of the pruned network gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from host.compress.prune import prune
from host.graph import trace_with_plan
from host.lower.importer import import_module
from host.lower.narrow import CannotNarrow, aligned_axes, narrow
from host.lower.targets import refusal
from host.models import make_network
from host.policy import Choice, Space
from tests.host.lower.models import SMALL_MODELS, Made


def made(name: str) -> Made:
    if name in SMALL_MODELS:
        return SMALL_MODELS[name]()
    shape = (1, 8, 8)
    return make_network(name, classes=10, input_shape=shape, seed=0).eval(), shape


@pytest.mark.parametrize("name", ["digits-cnn", "digits-vit", *SMALL_MODELS])
def test_narrowing_gives_what_tracing_the_pruned_network_gives(name: str) -> None:
    network, shape = made(name)
    graph, plan = trace_with_plan(network, name, shape, 10)
    space = Space(graph, refusal, round_to=1)
    full = import_module(network, shape)
    rng = np.random.default_rng(0)
    wishes = {
        layer.name: Choice(int(rng.integers(1, layer.out_channels + 1))) for layer in graph.layers
    }
    policy = space.policy(wishes)
    traced = import_module(prune(network, policy, plan), shape)
    assert narrow(full, {p.layer: p.keep for p in policy.layers}) == traced


class Cut(nn.Module):
    """Reads half of a layer's channels: which ones are left after pruning is not in the shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.second = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        half: Tensor = self.second(self.first(x)[:, 4:])
        return half


class Gained(nn.Module):
    """Multiplies a layer by a parameter of its width."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.gain = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        gained: Tensor = self.first(x) * self.gain
        return gained


@pytest.mark.parametrize("network", [Cut(), Gained()])
def test_what_does_not_follow_from_the_widths_is_refused(network: nn.Module) -> None:
    full = import_module(network.eval(), (3, 4, 4))
    widths = {"first": 8, "second": 4}
    assert narrow(full, widths) == full
    with pytest.raises(CannotNarrow):
        narrow(full, {**widths, "first": 6})


@given(st.lists(st.integers(1, 4), max_size=5))
def test_runs_of_axes_have_equal_products(extents: list[int]) -> None:
    merged = [int(np.prod(extents[:2])), *extents[2:]] if len(extents) > 1 else extents
    for before, after in ((extents, merged), (merged, extents)):
        runs = aligned_axes(tuple(before), tuple(after))
        assert [i for old, _ in runs for i in old] == list(range(len(before)))
        assert [j for _, new in runs for j in new] == list(range(len(after)))
        for old, new in runs:
            assert np.prod([before[i] for i in old]) == np.prod([after[j] for j in new])
