"""Pruning: what a policy keeps is what is left, and what is left computes what it did."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from host.compress.channels import zeroed
from host.compress.plan import PruningPlan
from host.compress.prune import kept_channels, prune
from host.errors import PolicyError
from host.graph import trace_with_plan
from host.models import make_network
from host.policy import Choice, Policy, uncompressed
from host.types import Graph
from tests.host.networks import NETWORKS, random_policy, space_of
from tests.host.test_graph import Awkward


@cache
def subject(name: str, shape: tuple[int, int, int]) -> tuple[nn.Module, Graph, PruningPlan]:
    network = make_network(name, classes=10, input_shape=shape)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
            module.running_mean.normal_(0, 0.1, generator=generator)
    graph, plan = trace_with_plan(network, name, shape, 10)
    return network, graph, plan


def check(name: str, shape: tuple[int, int, int], policy: Policy) -> None:
    network, graph, plan = subject(name, shape)
    space_of(graph).check(policy)
    pruned = prune(network, policy, plan)
    keeps = policy.keeps(graph)
    for layer in graph.layers:
        width_in = 1 if layer.depthwise else graph.in_channels(layer, keeps) // layer.groups
        weight = pruned.get_submodule(layer.name).weight
        assert weight.shape[:2] == (policy[layer.name].keep, width_in), layer.name
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    masked = zeroed(copy.deepcopy(network), plan.removed(kept_channels(network, policy, plan)))
    with torch.inference_mode():
        expected, got = masked(x), pruned(x)
    assert float((expected - got).abs().max()) <= 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize(("name", "shape"), NETWORKS)
def test_slicing_equals_masking(name, shape):
    check(name, shape, random_policy(subject(name, shape)[1], seed=1))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_legal_policy_slices_exactly(seed):
    for name, shape in (NETWORKS[0], NETWORKS[2]):
        check(name, shape, random_policy(subject(name, shape)[1], seed))


def test_the_original_is_untouched_and_a_full_policy_changes_nothing():
    network, graph, plan = subject(*NETWORKS[0])
    before = copy.deepcopy(network.state_dict())
    same = prune(network, uncompressed(graph), plan)
    prune(network, random_policy(graph, 3), plan)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(torch.equal(value, before[key]) for key, value in same.state_dict().items())
    assert same is not network


def test_channels_go_by_the_summed_norm_of_all_layers_of_a_group():
    network, graph, plan = subject(*NETWORKS[0])
    both = [network.get_submodule(n).weight.abs().sum((1, 2, 3)) for n in ("down.0", "second.0")]
    expected = (both[0] + both[1]).detach()
    policy = space_of(graph).policy({"down.0": Choice(keep=5)})
    kept = kept_channels(network, policy, plan)["down.0"]
    assert set(kept.tolist()) == set(expected.topk(5).indices.tolist())


def test_more_channels_than_there_are_is_refused():
    network, graph, plan = subject(*NETWORKS[0])
    layers = tuple(
        type(p)(p.layer, p.keep + 1 if p.layer == "stem.0" else p.keep)
        for p in uncompressed(graph).layers
    )
    with pytest.raises(PolicyError, match=r"stem\.0"):
        prune(network, Policy(layers), plan)


def test_concatenated_and_flattened_channels_slice_exactly():
    network = Awkward()
    graph, plan = trace_with_plan(network, "awkward", (3, 4, 4), 10)
    policy = random_policy(graph, 2)
    pruned = prune(network, policy, plan)
    masked = zeroed(copy.deepcopy(network), plan.removed(kept_channels(network, policy, plan)))
    x = torch.randn(2, 3, 4, 4)
    assert torch.allclose(pruned(x), masked(x), atol=1e-6)
    assert pruned.fc.in_features == 16 * policy["c"].keep
