"""Errors of logits: none for the network itself, more for fewer bits, one run for each policy."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from host.compress.candidate import CALIBRATION_IMAGES
from host.evaluate import Subject
from host.policy import Choice, Policy, uncompressed
from host.proxy import ExpectedLoss, LogitError
from tests.host.networks import space_of
from tests.host.trained import digits_subject


@dataclass(frozen=True)
class CountingSubject(Subject):
    """Says which policies were compressed."""

    compressed_policies: list[str] = field(default_factory=list)

    def compressed(self, policy: Policy) -> nn.Module:
        self.compressed_policies.append(policy.digest())
        return super().compressed(policy)


@pytest.fixture(scope="module")
def subject() -> CountingSubject:
    made = digits_subject()
    return CountingSubject(made.network, made.graph, made.plan, made.data)


def policy(subject: Subject, bits: int) -> Policy:
    space = space_of(subject.graph, round_to=8)
    return space.policy({x.name: Choice(None, "mix", bits, bits) for x in subject.graph.layers})


def test_the_network_itself_has_no_error(subject: CountingSubject) -> None:
    assert LogitError(subject)(uncompressed(subject.graph)) < 1e-9


def test_fewer_bits_cost_more(subject: CountingSubject) -> None:
    proxy = LogitError(subject)
    errors = [proxy(policy(subject, bits)) for bits in (6, 3, 1)]
    assert 0.0 < errors[0] < errors[1] < errors[2]


def test_it_is_the_mean_of_squared_differences_on_the_calibration_images(
    subject: CountingSubject,
) -> None:
    candidate = policy(subject, 3)
    images = subject.data.calibration(CALIBRATION_IMAGES)
    with torch.inference_mode():
        apart = subject.compressed(candidate).eval()(images) - subject.network.eval()(images)
    assert LogitError(subject)(candidate) == pytest.approx(float((apart**2).mean()), rel=1e-4)


def test_the_same_policy_gives_the_same_error_and_is_compressed_once(
    subject: CountingSubject,
) -> None:
    proxy, candidate = LogitError(subject), policy(subject, 2)
    subject.compressed_policies.clear()
    first = proxy(candidate)
    assert proxy(candidate) == first
    assert subject.compressed_policies == [candidate.digest()]
    assert LogitError(subject)(candidate) == first


def test_nothing_is_expected_to_be_lost_by_the_network_itself_and_more_by_fewer_bits(
    subject: CountingSubject,
) -> None:
    lost = ExpectedLoss(subject, 200)
    assert lost(uncompressed(subject.graph)) == 0
    few, fewer = lost(policy(subject, 4)), lost(policy(subject, 1))
    assert few < fewer <= 1
