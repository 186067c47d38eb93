"""What a search hands over is read off its trial, counted once, and kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hil_lab.bench.methods import METHODS, Method
from hil_lab.bench.report import Options
from hil_lab.bench.systems import SYSTEMS, final, references, report
from hil_lab.bench.trials import Contest, Trial
from hil_lab.console import Silent
from host.compress.finetune import accuracy, ratio
from host.policy import Policy

SHORT = {"train.epochs": 2, "sensitivity_images": 64}
RANDOM = Method("random", "random", 6)


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    yield Contest("digits-vit", tmp_path_factory.mktemp("systems"), SHORT, Silent())


def test_the_best_policy_for_the_target_is_counted_on_test_images(contest: Contest) -> None:
    trial = Trial("digits-vit", RANDOM, 0.5, 1)
    found = final(contest, trial, 0.5)
    episodes = contest.run(trial)
    top = max(episodes, key=lambda e: e.reward)
    policy = Policy.from_dict(found.policy)
    assert policy == top.policy and found.validation == top.evaluation.accuracy
    network = contest.bench.subject.compressed(policy)
    assert found.test == ratio(accuracy(network, "test", contest.bench.data))
    assert found.evaluations == len({e.policy.digest() for e in episodes})
    assert found.origin == contest.origin
    assert found.latency_ms == top.latency_ms and found.energy_mj > 0


def test_finals_are_kept_beside_their_trials(contest: Contest) -> None:
    trial = Trial("digits-vit", RANDOM, 0.5, 1)
    found = final(contest, trial, 0.5)
    elsewhere = Contest("digits-vit", contest.folder, {}, Silent())
    assert final(elsewhere, trial, 0.5) == found
    assert "bench" not in elsewhere.__dict__


def test_one_table_says_what_everybody_hands_over(
    contest: Contest, monkeypatch: pytest.MonkeyPatch
) -> None:
    fp32, int8 = references(contest)
    assert fp32.latency_ms == fp32.reference_ms and fp32.size_bytes > int8.size_bytes
    options = Options(
        ["digits-vit"], Silent(), methods=["random"], seeds=[1], folder=str(contest.folder)
    )
    monkeypatch.setitem(METHODS._factories, "random", RANDOM)
    table = report(options).tables[0]
    assert [row[0] for row in table.rows] == ["fp32", "uniform int8", "random", "random"]
    assert [row[1] for row in table.rows] == ["", "", "0.5", "0.3"]


def test_the_systems_are_methods() -> None:
    assert all(name in METHODS for name in SYSTEMS)
