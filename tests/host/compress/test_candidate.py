"""One policy, one module: deterministic, and the original stays as it is."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch

from host.compress import compress
from host.compress.candidate import disturbs, shaped
from host.compress.finetune import accuracy, ratio
from host.compress.quantize import calibrate
from host.data import load_data
from host.graph import trace_with_plan
from host.policy import Choice, Policy, uncompressed
from host.train import SMALL, train
from tests.host.networks import random_policy, space_of
from tests.host.trained import Subject


def all_layers(digits: Subject, choice: Choice):
    return space_of(digits.graph).policy({layer.name: choice for layer in digits.graph.layers})


def validation(digits: Subject, network: torch.nn.Module) -> float:
    return ratio(accuracy(network, "validation", digits.data))


def compressed(digits: Subject, policy) -> torch.nn.Module:
    return compress(digits.network, policy, digits.plan, digits.data)


def test_the_uncompressed_policy_changes_nothing(digits):
    same = compressed(digits, uncompressed(digits.graph))
    x = digits.data.calibration(8)
    with torch.inference_mode():
        assert torch.equal(same(x), digits.network(x))


def test_one_policy_gives_one_module(digits):
    policy = random_policy(digits.graph, 4, ("fp32", "int8", "mix"))
    before = copy.deepcopy(digits.network.state_dict())
    first, again = (compressed(digits, policy).state_dict() for _ in range(2))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
    after = digits.network.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize(
    ("choice", "largest_loss"),
    [
        (Choice(None, "int8", 8, 8), 0.01),
        (Choice(None, "mix", 4, 4), 0.05),
        (Choice(None, "mix", 3, 3), 0.15),
    ],
)
def test_calibration_alone_keeps_most_of_the_accuracy(digits, choice, largest_loss):
    lossless = validation(digits, digits.network)
    assert lossless > 0.93
    assert validation(digits, compressed(digits, all_layers(digits, choice))) > (
        lossless - largest_loss
    )


def test_batch_norms_are_reestimated_only_where_the_statistics_changed(digits):
    assert not disturbs(all_layers(digits, Choice(None, "int8", 8, 8)), digits.plan)
    assert disturbs(all_layers(digits, Choice(None, "mix", 4, 4)), digits.plan)
    assert disturbs(all_layers(digits, Choice(40)), digits.plan)
    pruned = compressed(digits, all_layers(digits, Choice(48)))
    assert not any(module.training for module in pruned.modules())
    assert pruned.get_submodule("stem.1").momentum == 0.1


def test_batch_norms_of_a_pruned_residual_network_take_the_statistics_of_all_images() -> None:
    residual = residual_subject()
    pruned = compress(residual.network, half(residual), residual.plan, residual.data)
    norm = pruned.get_submodule("bn1")
    images = residual.data.calibration(256)
    with torch.no_grad():
        sent = pruned.get_submodule("conv1")(images)
    assert norm.num_batches_tracked == 2
    assert torch.allclose(norm.running_mean, sent.mean((0, 2, 3)), atol=1e-4)
    halves = torch.stack([part.var((0, 2, 3)) for part in sent.split(128)])
    assert torch.allclose(norm.running_var, halves.mean(0), rtol=1e-3)


def test_new_statistics_recover_the_accuracy_of_a_pruned_residual_network() -> None:
    residual = residual_subject()
    stale = shaped(residual.network, half(residual), residual.plan)
    calibrate(stale, residual.data.calibration(256).split(128))
    fresh = compress(residual.network, half(residual), residual.plan, residual.data)
    lossless = ratio(accuracy(residual.network, "validation", residual.data))
    before, after = (ratio(accuracy(n, "validation", residual.data)) for n in (stale, fresh))
    assert lossless > 0.95
    assert after > before + 0.2


@cache
def residual_subject() -> Subject:
    data = load_data("digits")
    network = train("cifar-resnet20", data, training=replace(SMALL, epochs=6)).network
    graph, plan = trace_with_plan(network, "cifar-resnet20", data.input_shape, data.classes)
    return Subject(network, graph, plan, data)


def half(subject: Subject) -> Policy:
    """Half the channels inside every residual block."""
    inner = {layer.name: Choice(layer.out_channels // 2) for layer in subject.graph.drivers}
    return space_of(subject.graph).policy(inner)
