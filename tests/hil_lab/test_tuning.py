"""What a recipe says of training reaches the trainer, and halves nothing that is quantized."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_lab import tuning
from hil_lab.commands.search import recipe_path
from hil_lab.console import Silent
from hil_lab.recipe import read_recipe
from hil_lab.runs import start_run
from hil_lab.stages import Stages
from hil_lab.workbench import Workbench, versions
from host.compress.finetune import Training
from host.policy import Choice, Policy


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """The trainings that were asked for, none of which is done."""
    found: list[Training] = []

    def note(module: object, data: object, training: Training, **_: object) -> float:
        found.append(training)
        return 0.5

    monkeypatch.setattr(tuning, "finetune", note)
    return found


def bench_of(runs: Path, **keys: object) -> Workbench:
    given = {"train.epochs": 1, "runs": str(runs), **keys}
    return Workbench(start_run(read_recipe(recipe_path("digits"), given), versions()), Silent())


def test_only_what_is_not_quantized_trains_in_bfloat16(
    tmp_path: Path, asked: list[Training]
) -> None:
    bench = bench_of(
        tmp_path,
        **{"finetune.half": True, "finetune.distillation": 0.25, "finetune.cutout_px": 3},
    )
    whole = bench.space.policy({})
    first = bench.subject.graph.layers[0]
    mixed = bench.space.policy({first.name: Choice(first.out_channels, "int8", 8, 8)})
    assert mixed != whole
    for policy in (whole, mixed):
        tuning.tune(bench, bench.subject.compressed(policy), policy, 3, 0.1, "a network")
    assert [t.half for t in asked] == [True, False]
    told = {(t.epochs, t.lr, t.distillation, t.cutout_px) for t in asked}
    assert told == {(3, 0.1, 0.25, 3)}


def test_nothing_trains_in_bfloat16_unless_asked(tmp_path: Path, asked: list[Training]) -> None:
    bench = bench_of(tmp_path)
    policy: Policy = bench.space.policy({})
    tuning.tune(bench, bench.network, policy, 1, 0.1, "a network")
    assert [t.half for t in asked] == [False]


def test_what_is_trained_between_stages_has_a_pace_of_its_own(
    tmp_path: Path, asked: list[Training]
) -> None:
    pace = {"stage_epochs": 2, "stage_lr": 0.3, "stage_warmup": 0.5}
    bench = bench_of(tmp_path, **{f"finetune.{key}": value for key, value in pace.items()})
    Stages(bench).trained(bench.space.policy({}))
    assert [(t.epochs, t.lr, t.warmup) for t in asked] == [(2, 0.3, 0.5)]
