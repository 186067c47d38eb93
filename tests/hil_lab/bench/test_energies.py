"""What is saved and lost is read off kept outcomes; a search is run where one is missing."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hil_lab.bench.energies import Outcome, Program, outcome, report
from hil_lab.bench.methods import ENERGY_METHODS, Method, methods
from hil_lab.bench.report import Options
from hil_lab.bench.trials import Contest, Trial
from hil_lab.console import Silent
from host.errors import CallerError
from host.marking import COUNTED, EXPECTED
from host.policy import Policy, uniform_int8

KEPT = Outcome(
    "resnet20",
    "composite",
    1,
    200,
    5000,
    dense_16=Program(0.96, 0.92, 2.0),
    dense_8=Program(0.955, 0.91, 1.0),
    chosen=Program(0.95, 0.90, 0.5),
    policy={},
    versions={},
)


def keep(folder: Path, kept: Outcome) -> None:
    path = folder / kept.network / f"{kept.method}-1-seed{kept.seed}.outcome"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(kept)))


def options(folder: Path, *networks: str, seeds: tuple[int, ...] = (1,)) -> Options:
    return Options(networks, Silent(), methods=["composite"], seeds=seeds, folder=str(folder))


def test_savings_are_against_dense_networks_on_the_same_model() -> None:
    assert KEPT.saved(KEPT.dense_8) == 0.5 and KEPT.saved(KEPT.dense_16) == 0.75
    assert KEPT.lost(KEPT.dense_8) == pytest.approx(0.01)
    assert KEPT.lost(KEPT.dense_16) == pytest.approx(0.02)


def test_networks_count_alike_however_many_seeds_they_have(tmp_path: Path) -> None:
    worse = Program(0.9, 0.87, 0.9)
    keep(tmp_path, KEPT)
    keep(tmp_path, replace(KEPT, seed=2))
    saved, lost = report(options(tmp_path, "resnet20", seeds=(1, 2))).shows
    assert saved.holds and lost.holds
    for seed in (1, 2):
        keep(tmp_path, replace(KEPT, network="resnet56", seed=seed, chosen=worse))
    found = report(options(tmp_path, "resnet20", "resnet56", seeds=(1, 2)))
    assert [show.value for show in found.shows] == pytest.approx([0.3, 0.025])
    assert [show.holds for show in found.shows] == [False, False]


def test_a_missing_outcome_is_searched_for_and_counted_on_test_images(tmp_path: Path) -> None:
    contest = Contest("digits-vit", tmp_path, {"train.epochs": 2}, Silent(), EXPECTED)
    method = Method("composite", "composite", 3, {"hidden": [16, 16], "rainbow_hidden": 8})
    found = outcome(contest, Trial("digits-vit", method, 1.0, 1))
    assert found.images == len(contest.bench.data.test) and found.episodes == 3
    assert found.origin == contest.origin and found.origin["weights"]
    assert found.dense_8.energy_mj < found.dense_16.energy_mj
    policy = Policy.from_dict(found.policy)
    assert found.chosen.energy_mj == contest.bench.energy(policy)
    assert contest.bench.energy(uniform_int8(contest.bench.space)) == found.dense_8.energy_mj
    kept = outcome(Contest("digits-vit", tmp_path, {}, Silent()), Trial("digits-vit", method, 1, 1))
    assert kept == found


def test_searches_see_expected_accuracies_and_later_sittings_need_no_keys(tmp_path: Path) -> None:
    _ = Contest("digits-vit", tmp_path, {"train.epochs": 2}, Silent(), EXPECTED).bench
    later = Contest("digits-vit", tmp_path, {}, Silent(), EXPECTED)
    assert later.bench.recipe.train.epochs == 2
    assert later.evaluator.marking == EXPECTED
    by_counting = {"search.marking": COUNTED}
    counted = Contest("digits-vit", tmp_path / "counted", by_counting, Silent(), EXPECTED)
    assert counted.recipe.search.marking == COUNTED


def test_every_part_of_the_agent_can_be_taken_away_by_name() -> None:
    assert [m.name for m in methods([], ENERGY_METHODS)] == sorted(ENERGY_METHODS)
    with pytest.raises(CallerError, match="composite-ddpg"):
        methods(["composite-dpg"], ENERGY_METHODS)
