"""One policy, one module: deterministic, and the original stays as it is."""

from __future__ import annotations

import copy

import pytest
import torch

from host.compress import compress
from host.compress.candidate import disturbs
from host.compress.finetune import accuracy, ratio
from host.policy import Choice, uncompressed
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
