"""Measures of channels: each by hand on a small layer, and what holds for all of them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from host.compress.channels import zeroed
from host.compress.plan import ChannelGroup, Member, PruningPlan
from host.compress.prune import kept_channels, prune, strongest
from host.compress.pruners import PRUNERS, RECONSTRUCTION, input_power
from host.data import load_data
from host.errors import CallerError, PolicyError
from host.evaluate import Subject
from host.graph import trace_with_plan
from host.models import make_network
from host.policy import L1, Choice, uncompressed
from tests.host.networks import NETWORKS, random_policy, space_of

WIDTH = 4
EVERY = np.arange(WIDTH)
GROUP = ChannelGroup(
    "make", WIDTH, (Member("make", "out", EVERY, EVERY), Member("read", "in", EVERY, EVERY))
)


class Pair(nn.Module):
    """A layer that makes four channels and one that reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.make, self.read = nn.Linear(2, WIDTH, bias=False), nn.Linear(WIDTH, 3, bias=False)
        self.make.weight.data = torch.tensor([[3.0, 0.0], [2.0, 2.0], [2.0, 2.1], [-9.0, 9.0]])
        self.read.weight.data = torch.tensor([[1.0, 0.0, 5.0, 0.1]] * 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.read(self.make(x))


def strength(name: str, power: dict[str, Any] | None = None) -> np.ndarray:
    return PRUNERS[name](Pair(), GROUP, power or {})


def test_norms_are_of_the_weights_that_make_a_channel() -> None:
    assert strength("l1") == pytest.approx([3.0, 4.0, 4.1, 18.0])
    assert strength("l2") == pytest.approx([3.0, 8**0.5, (4 + 4.41) ** 0.5, 162**0.5])


def test_what_another_channel_can_stand_for_is_weak_by_the_median() -> None:
    found = strength("median")
    assert int(np.argmax(found)) == 3
    assert set(np.argsort(found)[:2].tolist()) == {1, 2}


def test_what_nobody_reads_is_weak_by_reconstruction() -> None:
    found = strength(RECONSTRUCTION, {"read": np.array([1.0, 50.0, 1.0, 1.0])})
    assert found == pytest.approx([3.0, 0.0, 75.0, 0.03])


def test_reconstruction_without_images_is_one_sentence() -> None:
    with pytest.raises(PolicyError, match="make: pruner reconstruction needs calibration images"):
        strength(RECONSTRUCTION)


def test_chance_is_the_same_at_all_times_and_another_for_every_group() -> None:
    other = replace(GROUP, driver="other")
    assert strength("bernoulli").tolist() == strength("bernoulli").tolist()
    assert PRUNERS["bernoulli"](Pair(), other, {}).tolist() != strength("bernoulli").tolist()


def test_an_unknown_pruner_is_answered_with_a_hint() -> None:
    with pytest.raises(CallerError, match='did you mean "median"'):
        strongest(Pair(), GROUP, 2, "medien")


def test_power_is_the_mean_square_of_every_input_channel() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    found = input_power(Pair(), ["make"], x)
    assert found["make"] == pytest.approx([5.0, 2.0])


@pytest.fixture(scope="module")
def subject() -> Subject:
    data = load_data("digits")
    network = make_network("digits-cnn", classes=10, input_shape=data.input_shape)
    graph, plan = trace_with_plan(network, "digits-cnn", data.input_shape, 10)
    return Subject(network, graph, plan, data)


@pytest.mark.parametrize("pruner", list(PRUNERS))
class TestEveryPruner:
    def test_slicing_equals_masking(self, subject: Subject, pruner: str) -> None:
        choices = {
            layer.name: Choice(layer.out_channels // 2, pruner=pruner)
            for layer in subject.graph.drivers
        }
        policy = space_of(subject.graph).policy(choices)
        plan = subject.plan_of(policy)
        pruned = prune(subject.network, policy, plan)
        removed = plan.removed(kept_channels(subject.network, policy, plan))
        masked = zeroed(copy.deepcopy(subject.network), removed)
        x = subject.data.calibration(4)
        with torch.inference_mode():
            assert torch.allclose(pruned(x), masked(x), atol=1e-4)
        assert subject.compressed(policy)(x).shape == (4, 10)

    def test_the_program_is_the_same_whoever_chooses(self, subject: Subject, pruner: str) -> None:
        space, driver = space_of(subject.graph), subject.graph.drivers[0]
        mine, usual = (space.policy({driver.name: Choice(8, pruner=name)}) for name in (pruner, L1))
        assert mine.structure_digest() == usual.structure_digest()
        assert (mine.digest() == usual.digest()) == (pruner == L1)

    def test_where_nothing_goes_there_is_nothing_to_choose(
        self, subject: Subject, pruner: str
    ) -> None:
        whole = {layer.name: Choice(None, pruner=pruner) for layer in subject.graph.layers}
        assert space_of(subject.graph).policy(whole) == uncompressed(subject.graph)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([n for n in PRUNERS if n != RECONSTRUCTION]))
def test_never_no_channel_and_coupled_layers_agree(seed: int, pruner: str) -> None:
    name, shape = NETWORKS[2]
    network = make_network(name, classes=10, input_shape=shape)
    graph, plan = trace_with_plan(network, name, shape, 10)
    policy = random_policy(graph, seed)
    named = {
        p.layer: Choice(p.keep, p.mode, p.weight_bits, p.act_bits, pruner) for p in policy.layers
    }
    same = space_of(graph).policy(named)
    kept = kept_channels(network, same, PruningPlan(plan.groups))
    assert all(1 <= len(kept[g.driver]) == same[g.driver].keep for g in plan.groups)
    smaller = prune(network, same, plan)
    with torch.inference_mode():
        assert smaller(torch.zeros(1, *shape)).shape == (1, 10)
