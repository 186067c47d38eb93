"""What is remembered is what running everything again would give, to the bit."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from host.compress.candidate import Settling, settling, shaped
from host.compress.reconstruct import Teacher, teacher
from host.data import load_data
from host.evaluate import Subject
from host.graph import trace_with_plan
from host.models import make_network
from host.policy import Policy
from host.prefix.calls import Forward, cut_before, trace_calls
from host.prefix.shared import DEFAULT_BYTES, Batch, SharedPrefix
from tests.host.networks import random_policy

MODES = ("fp32", "int8", "mix")
SHAPES = {"cifar-resnet8": (1, 8, 8), "digits-cnn": (1, 8, 8), "digits-vit": (1, 8, 8)}
CALIBRATION, IMAGES = 48, 40


@cache
def subject_of(name: str, reconstruction: bool = False) -> Subject:
    data = load_data("digits")
    network = make_network(name, classes=10, input_shape=SHAPES[name], seed=0)
    with torch.no_grad():
        network.train()(data.calibration(64))  # batch norms with lives of their own
    network.eval()
    graph, plan = trace_with_plan(network, name, data.input_shape, data.classes)
    return Subject(network, graph, plan, data, reconstruction)


def memory_of(subject: Subject, limit_bytes: int = DEFAULT_BYTES) -> SharedPrefix:
    example = subject.data.calibration(2)
    images = CALIBRATION + IMAGES
    return SharedPrefix(subject.network, subject.graph, example, images, limit_bytes)


def validation(subject: Subject) -> list[Batch]:
    x = subject.data.tensor(subject.data.validation.images[:IMAGES])
    return [Batch(f"v{i}", part) for i, part in enumerate(torch.split(x, 16))]


def way_of(subject: Subject, policy: Policy) -> Settling:
    known = teacher_of(subject.graph.name) if subject.reconstruction else None
    return settling(
        subject.network, policy, subject.plan, subject.data, images=CALIBRATION, known=known
    )


@cache
def teacher_of(name: str) -> Teacher:
    subject = subject_of(name)
    layers = [layer.name for layer in subject.graph.layers]
    return teacher(subject.network, layers, subject.data.calibration(CALIBRATION))


def in_full(subject: Subject, policy: Policy) -> tuple[nn.Module, Tensor]:
    network = shaped(subject.network, policy, subject.plan)
    way_of(subject, policy).settle(network)
    with torch.inference_mode():
        return network, torch.cat([network(batch.x) for batch in validation(subject)])


def shared(subject: Subject, memory: SharedPrefix, policy: Policy) -> tuple[nn.Module, Tensor]:
    network = shaped(subject.network, policy, subject.plan)
    memory.settle(network, way_of(subject, policy))
    prefixes = memory.prefixes(network)
    with torch.inference_mode():
        parts = [memory.run(network, prefixes, batch) for batch in validation(subject)]
    return network, torch.cat(parts)


def same(first: tuple[nn.Module, Tensor], second: tuple[nn.Module, Tensor]) -> bool:
    states = first[0].state_dict(), second[0].state_dict()
    assert states[0].keys() == states[1].keys()
    equal = all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    return equal and torch.equal(first[1], second[1])


def spliced(first: Policy, second: Policy, place: int) -> Policy:
    """Return the first layers of one policy and the formats of another after them."""
    later = zip(first.layers[place:], second.layers[place:], strict=True)
    formats = tuple(type(a)(a.layer, a.keep, b.mode, b.weight_bits, b.act_bits) for a, b in later)
    return Policy((*first.layers[:place], *formats))


@pytest.mark.parametrize("reconstruction", [False, True])
@pytest.mark.parametrize("name", SHAPES)
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seeds=st.tuples(st.integers(0, 999), st.integers(0, 999)),
    share=st.floats(0, 1),
    limit_bytes=st.sampled_from([DEFAULT_BYTES, 3_000_000, 200_000]),
)
def test_policies_that_share_layers_give_the_same_bits_as_in_full(
    name: str, reconstruction: bool, seeds: tuple[int, int], share: float, limit_bytes: int
) -> None:
    subject = subject_of(name, reconstruction)
    memory = memory_of(subject, limit_bytes)
    first, other = (random_policy(subject.graph, seed, MODES) for seed in seeds)
    second = spliced(first, other, round(share * len(first.layers)))
    for policy in (first, second, first, other, second, first):
        assert same(shared(subject, memory, policy), in_full(subject, policy))
        assert memory.memory.used_bytes <= limit_bytes


@pytest.mark.parametrize("reconstruction", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_the_layers_before_a_change_do_not_run_again(name: str, reconstruction: bool) -> None:
    subject = subject_of(name, reconstruction)
    memory = memory_of(subject)
    first = random_policy(subject.graph, 3, MODES)
    second = spliced(first, random_policy(subject.graph, 4, ("mix",)), len(first.layers) - 1)
    for _ in range(2):
        shared(subject, memory, first)
    network = shaped(subject.network, second, subject.plan)
    ran: list[str] = []
    for layer in subject.graph.layers:
        module = network.get_submodule(layer.name)
        module.forward = counting(module.forward, layer.name, ran)
    memory.settle(network, way_of(subject, second))
    assert ran == [subject.graph.layers[-1].name]


def counting(forward: Forward, name: str, ran: list[str]) -> Forward:
    def counted(x: Tensor) -> Tensor:
        ran.append(name)
        out: Tensor = forward(x)
        return out

    return counted


def test_nothing_is_remembered_of_layers_that_came_once() -> None:
    subject = subject_of("digits-cnn")
    memory = memory_of(subject)
    shared(subject, memory, random_policy(subject.graph, 3, MODES))
    assert len(memory.memory) == 0
    shared(subject, memory, random_policy(subject.graph, 3, MODES))
    assert len(memory.memory) > 0


def test_of_a_residual_block_two_outputs_are_read_after_its_first_half() -> None:
    subject = subject_of("cifar-resnet8")
    calls = trace_calls(subject.network, subject.data.calibration(2))
    place = calls.leaves.index("layer2.0.conv2")
    cut = cut_before(subject.network, subject.data.calibration(2), calls, place)
    assert cut.live == {"layer1", "layer2.0.bn1"}
    assert {"conv1", "bn1"} < {call.module for call in cut.before}


class Twice(nn.Module):
    """A network that uses one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.layer = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 8) to (N, 8)."""
        out: Tensor = self.layer(self.layer(self.first(x)))
        return out


def test_a_network_whose_layer_runs_twice_is_never_cut() -> None:
    assert trace_calls(Twice(), torch.zeros(2, 8)).leaves == ()


class SharedRelu(nn.Module):
    """A network whose one ReLU stands in two places and works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(8, 8) for _ in range(3))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 8) to (N, 8)."""
        a = self.relu(self.first(x))
        out: Tensor = self.third(a + self.relu(self.second(a)))
        return out


def test_a_function_in_place_between_layers_runs_again() -> None:
    network = SharedRelu()
    calls = trace_calls(network, torch.zeros(2, 8))
    assert calls.leaves == ("first", "second", "third")
    assert cut_before(network, torch.zeros(2, 8), calls, 2).live == {"first", "second"}
