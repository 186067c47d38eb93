"""An evaluation: the accuracy of the whole way, whichever short cut it took."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from host.compress.finetune import Training, accuracy, evaluating, finetune, ratio
from host.evaluate import Evaluator, Figures, Subject, recall, seed_of
from host.marking import EXPECTED, expected_right, margins
from host.policy import Policy, uncompressed
from host.store import Store
from host.types import Figure
from tests.host.networks import random_policy
from tests.host.trained import digits_subject

MODES = ("fp32", "int8", "mix")
UNTRAINED = Training(steps=0)


@dataclass
class FakeMeter:
    """One latency for all; remembers the policies that it was asked for."""

    asked: list[str] = field(default_factory=list)

    def figures(self, network: nn.Module, policy: Policy) -> Figures:
        self.asked.append(policy.digest())
        return Figures("artifact", 1000, Figure(1.0, "measured"), None, "m-1", "trusted")


@pytest.fixture(scope="module", params=[False, True], ids=["calibrated", "solved"])
def subject(request: pytest.FixtureRequest) -> Subject:
    made = digits_subject()
    return Subject(made.network, made.graph, made.plan, made.data, request.param)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.exam.BATCH_IMAGES", 32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store.db")


def policies(subject: Subject) -> list[Policy]:
    first, other = (random_policy(subject.graph, seed, MODES) for seed in (1, 2))
    formats = [replace(b, keep=a.keep) for a, b in zip(first.layers, other.layers, strict=True)]
    return [first, other, Policy((*first.layers[:3], *formats[3:])), first]


@pytest.mark.parametrize("memory_bytes", [0, 100_000_000])
def test_the_accuracy_is_that_of_compressing_and_counting(
    subject: Subject, memory_bytes: int
) -> None:
    evaluator = Evaluator(subject, FakeMeter(), UNTRAINED, memory_bytes=memory_bytes)
    for policy in policies(subject):
        network = subject.compressed(policy)
        expected = accuracy(network, "validation", subject.data)
        found = evaluator(policy)
        assert (found.accuracy, found.samples) == (ratio(expected), expected[1])
        assert found.accuracy_source == "measured"


@pytest.mark.usefixtures("small_batches")
def test_expected_answers_are_of_margins_batch_by_batch(
    subject: Subject, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, whole = random_policy(subject.graph, 1, MODES), uncompressed(subject.graph)
    evaluator = Evaluator(subject, FakeMeter(), UNTRAINED, 64, store=store, marking=EXPECTED)
    network = subject.compressed(policy)
    expected = 0.0
    for number in range(2):
        part = subject.data.validation.take(slice(32 * number, 32 * number + 32))
        x = subject.data.tensor(part.images)
        with evaluating(network), evaluating(subject.network), torch.inference_mode():
            leads = [margins(n(x).numpy(), part.labels) for n in (subject.network, network)]
        expected += expected_right(*leads)
    assert evaluator(policy).accuracy == pytest.approx(expected / 64)
    counted = Evaluator(subject, FakeMeter(), UNTRAINED, 64, store=store)
    assert evaluator(whole).accuracy == counted(whole).accuracy
    assert evaluator(policy).accuracy_source == "expected"
    again = Evaluator(subject, FakeMeter(), UNTRAINED, 64, store=store, marking=EXPECTED)
    monkeypatch.setattr(Evaluator, "_answering", None)  # no network is calibrated or run
    assert again(policy).accuracy == evaluator(policy).accuracy


def test_training_comes_before_counting(subject: Subject) -> None:
    training = Training(steps=3, batch_size=64, lr=0.05)
    policy = random_policy(subject.graph, 5, MODES)
    network = subject.compressed(policy)
    generator = torch.Generator().manual_seed(seed_of(policy, 7))
    finetune(network, subject.data, training, generator=generator)
    expected = ratio(accuracy(network, "validation", subject.data, limit=100))
    evaluator = Evaluator(subject, FakeMeter(), training, 100, 7, memory_bytes=1_000_000)
    assert evaluator(policy).accuracy == expected


def test_an_equal_policy_is_not_evaluated_again(subject: Subject) -> None:
    meter = FakeMeter()
    evaluator = Evaluator(subject, meter, UNTRAINED, 64)
    policy = random_policy(subject.graph, 1, MODES)
    assert evaluator(policy) is evaluator(policy)
    assert len(meter.asked) == 1


def test_another_run_finds_the_counts_in_the_store(
    subject: Subject, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = random_policy(subject.graph, 1, MODES)
    first = Evaluator(subject, FakeMeter(), UNTRAINED, 64, seed=1, store=store)(policy)
    other_seed = Evaluator(subject, FakeMeter(), UNTRAINED, 64, seed=2, store=store)
    monkeypatch.setattr(Evaluator, "_answering", None)  # no network is calibrated or run
    found = other_seed(policy)
    assert found.accuracy_source == "cached"
    assert replace(found, accuracy_source="measured", seconds=first.seconds) == first


def test_counts_of_other_images_training_seed_or_weights_are_not_taken(
    subject: Subject, store: Store
) -> None:
    policy = random_policy(subject.graph, 1, MODES)
    training = Training(steps=1, batch_size=32)
    heavier = Subject(
        subject.compressed(policy),
        subject.graph,
        subject.plan,
        subject.data,
    )
    other_way = replace(subject, reconstruction=not subject.reconstruction)
    made = [
        Evaluator(subject, FakeMeter(), UNTRAINED, 64, store=store),
        Evaluator(subject, FakeMeter(), UNTRAINED, 65, store=store),
        Evaluator(subject, FakeMeter(), training, 64, 1, store=store),
        Evaluator(subject, FakeMeter(), training, 64, 2, store=store),
        Evaluator(subject, FakeMeter(), replace(training, lr=0.5), 64, 1, store=store),
        Evaluator(heavier, FakeMeter(), UNTRAINED, 64, store=store),
        Evaluator(other_way, FakeMeter(), UNTRAINED, 64, store=store),
        Evaluator(subject, FakeMeter(), UNTRAINED, 64, store=store, floor=lambda known: None),
        Evaluator(subject, FakeMeter(), UNTRAINED, 64, store=store, marking=EXPECTED),
    ]
    assert len({evaluator._setting for evaluator in made}) == len(made)
    assert made[2](policy).accuracy_source == "measured"
    assert made[3](policy).accuracy_source == "measured"


@pytest.mark.usefixtures("small_batches")
def test_a_hopeless_candidate_is_counted_in_part(subject: Subject) -> None:
    policy = random_policy(subject.graph, 1, MODES)
    full = Evaluator(subject, FakeMeter(), UNTRAINED, floor=lambda known: None)(policy)
    stopped = Evaluator(subject, FakeMeter(), UNTRAINED, floor=lambda known: 1.1)(policy)
    assert full.samples == len(subject.data.validation)
    assert stopped.samples == 32
    below = Evaluator(subject, FakeMeter(), UNTRAINED, floor=lambda known: full.accuracy)(policy)
    assert below == replace(full, seconds=below.seconds)


@pytest.mark.usefixtures("small_batches")
def test_a_count_that_was_stopped_goes_on_where_the_floor_is_lower(
    subject: Subject, store: Store
) -> None:
    policy = random_policy(subject.graph, 1, MODES)
    evaluator = Evaluator(subject, FakeMeter(), UNTRAINED, floor=lambda known: 1.1, store=store)
    stopped = evaluator(policy)
    assert evaluator(policy) is stopped
    evaluator.floor = lambda known: 0.0
    assert evaluator(policy).samples == len(subject.data.validation)


@pytest.mark.usefixtures("small_batches")
def test_counts_in_the_store_do_not_change_where_a_count_stops(
    subject: Subject, store: Store
) -> None:
    policy = random_policy(subject.graph, 1, MODES)
    alone = Evaluator(subject, FakeMeter(), UNTRAINED, floor=lambda known: 1.1)(policy)
    Evaluator(subject, FakeMeter(), UNTRAINED, floor=lambda known: None, store=store)(policy)
    after = Evaluator(subject, FakeMeter(), UNTRAINED, floor=lambda known: 1.1, store=store)(policy)
    assert (after.accuracy, after.samples) == (alone.accuracy, alone.samples)


def test_of_two_past_evaluations_the_one_of_more_images_is_known(subject: Subject) -> None:
    policy = random_policy(subject.graph, 1, MODES)
    full = Evaluator(subject, FakeMeter(), UNTRAINED, 64)(policy)
    part = replace(full, samples=32)
    for order in ((part, full), (full, part)):
        known: dict[str, object] = {}
        for past in order:
            recall(known, policy, past)  # type: ignore[arg-type]
        assert known == {policy.digest(): full}
