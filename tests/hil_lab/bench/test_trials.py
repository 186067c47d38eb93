"""Trials are kept episode by episode and gone on with, whatever cut them short."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hil_lab.bench.methods import METHODS, Method, methods
from hil_lab.bench.report import Options
from hil_lab.bench.search import report
from hil_lab.bench.trace import Trace
from hil_lab.bench.trials import Contest, Trial, read_episodes, trials
from hil_lab.console import Silent
from hil_lab.workbench import save_network
from host.errors import CallerError
from host.models import make_network
from tests.hil_lab.bench.test_curves import TRACE

QUICK = {"generations": 4, "population": 6, "offspring": 6, "design": 4}
OURS = Method("ours", "frontier", 6, QUICK)
SHORT = {"train.epochs": 2, "sensitivity_images": 64}


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    yield Contest("digits-vit", tmp_path_factory.mktemp("trials"), SHORT, Silent())


def test_a_trial_that_was_cut_short_ends_as_a_whole_one(contest: Contest) -> None:
    trial = Trial("digits-vit", OURS, 0.5, 1)
    whole = contest.run(trial)
    path = contest.folder / trial.file
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:40])
    again = contest.run(trial)
    assert [e.policy.digest() for e in again] == [e.policy.digest() for e in whole]
    assert [e.reward for e in again] == [e.reward for e in whole]
    assert len(read_episodes(path)) == OURS.episodes


def test_a_whole_trial_is_read_not_run(contest: Contest) -> None:
    trial = Trial("digits-vit", OURS, 0.5, 1)
    contest.run(trial)
    before = (contest.folder / trial.file).stat().st_mtime_ns
    contest.run(trial)
    assert (contest.folder / trial.file).stat().st_mtime_ns == before


def test_a_kept_trace_needs_neither_network_nor_data(tmp_path: Path) -> None:
    method = Method("ours", "frontier", len(TRACE.steps))
    trial = Trial("resnet20", method, 0.5, 1)
    (tmp_path / "resnet20").mkdir()
    TRACE.write(tmp_path / trial.trace)
    assert Contest("resnet20", tmp_path, {}, Silent()).trace(trial) == TRACE


def test_a_trial_leaves_its_trace(contest: Contest) -> None:
    trial = Trial("digits-vit", OURS, 0.5, 1)
    trace = contest.trace(trial)
    assert Trace.read(contest.folder / trial.trace) == trace
    assert [s.accuracy for s in trace.steps] == [e.evaluation.accuracy for e in contest.run(trial)]


def test_trials_of_other_keys_need_another_folder(contest: Contest) -> None:
    assert contest.bench.recipe.sensitivity_images == SHORT["sensitivity_images"]
    other = Contest("digits-vit", contest.folder, {**SHORT, "train.epochs": 3}, Silent())
    with pytest.raises(CallerError, match="name another --out"):
        _ = other.bench
    assert Contest("digits-vit", contest.folder, {}, Silent()).bench.recipe.train.epochs == 2


def test_trials_of_other_weights_need_another_folder(tmp_path: Path, contest: Contest) -> None:
    weights = tmp_path / "weights.safetensors"
    keys = {"checkpoint": str(weights)}
    save_network(contest.bench.network, weights)
    first = Contest("digits-vit", tmp_path, keys, Silent())
    assert first.origin == contest.origin
    again = Contest("digits-vit", tmp_path, {}, Silent())
    assert again.origin == first.origin
    changed = make_network("digits-vit", classes=10, input_shape=(1, 8, 8), seed=7)
    save_network(changed, weights)
    with pytest.raises(CallerError, match="figures of other weights"):
        _ = Contest("digits-vit", tmp_path, {}, Silent()).bench.network


def test_fronts_are_searched_once_for_all_targets() -> None:
    chosen = methods(["ours", "random"])
    found = list(trials(["resnet20"], chosen, (1, 2)))
    assert [t.file for t in found if t.seed == 1] == [
        "resnet20/ours-front-seed1.jsonl",
        "resnet20/random-0.3-seed1.jsonl",
        "resnet20/random-0.5-seed1.jsonl",
    ]


def test_an_unknown_method_is_refused_with_a_hint() -> None:
    with pytest.raises(CallerError, match='did you mean "greedy"'):
        methods(["gredy"])
    assert [m.name for m in methods([])] == list(METHODS)


def test_held_out_figures_are_missing_where_only_a_trace_is_kept(tmp_path: Path) -> None:
    (tmp_path / "resnet20").mkdir()
    steps = TRACE.steps * (METHODS["ours"].episodes // len(TRACE.steps) + 1)
    kept = replace(TRACE, steps=steps[: METHODS["ours"].episodes])
    kept.write(tmp_path / "resnet20" / "ours-front-seed1.trace")
    options = Options(["resnet20"], Silent(), methods=["ours"], seeds=[1], folder=str(tmp_path))
    missing = report(options).missing
    assert "resnet20: held-out figures of seed 1, of which only the trace is kept" in missing
