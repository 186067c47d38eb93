"""A network trained between stages is kept, fits every policy, and later ones start from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hil_lab.commands.search import recipe_path
from hil_lab.console import Silent
from hil_lab.recipe import read_recipe
from hil_lab.runs import start_run
from hil_lab.stages import StagedEvaluator, Stages
from hil_lab.workbench import BEARABLE, Workbench, versions
from host.compress.channels import spread
from host.compress.finetune import Training
from host.compress.prune import kept_channels, prune
from host.evaluate import Evaluator, Figures
from host.policy import Choice, Mode, Policy
from host.proxy import ExpectedLoss
from host.types import Figure

SHORT = {"train.epochs": 2, "finetune.stage_epochs": 1}


class FreeMeter:
    def figures(self, network: torch.nn.Module, policy: Policy) -> Figures:
        return Figures("", 1, Figure(1.0, "predicted"))


class Scripted:
    """A strategy of which only its stage is read."""

    def __init__(self) -> None:
        self.start: Policy | None = None


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    runs = str(tmp_path_factory.mktemp("stages"))
    recipe = read_recipe(recipe_path("digits"), {**SHORT, "runs": runs})
    yield Workbench(start_run(recipe, versions()), Silent())


def halved(bench: Workbench, pruner: str = "magnitude", mode: Mode = "fp32") -> Policy:
    """Half of the channels go, and of the weights that are left 30 per cent."""
    bits = {"fp32": 32, "int8": 8}[mode]
    choices = {
        layer.name: Choice(max(layer.out_channels // 2, 1), mode, bits, bits, pruner, 30)
        for layer in bench.subject.graph.layers
    }
    return bench.space.policy(choices)


def test_a_whole_network_with_zeros_computes_what_the_sliced_one_does(bench: Workbench) -> None:
    policy, subject = halved(bench), bench.subject
    small = prune(subject.network, policy, subject.plan).eval()
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.01)
    removed = subject.plan.removed(kept_channels(subject.network, policy, subject.plan))
    whole = spread(small, subject.network, removed)
    x = bench.data.calibration(16)
    with torch.inference_mode():
        torch.testing.assert_close(whole(x), small(x))
        again = prune(whole, policy, subject.plan)
        torch.testing.assert_close(again(x), small(x))


def test_what_is_pruned_alike_starts_from_the_trained_network(bench: Workbench) -> None:
    stages, start = Stages(bench), halved(bench)
    assert stages.of(start) is bench.subject
    trained = stages.trained(start)
    other = halved(bench, mode="int8")
    assert Stages(bench).of(other).network is not bench.subject.network
    with torch.inference_mode():
        x = bench.data.calibration(16)
        expected = trained.network(x)
        torch.testing.assert_close(Stages(bench).of(other).network(x), expected)
        torch.testing.assert_close(trained.shaped(start)(x), expected)
    whole = bench.space.policy({})
    assert stages.of(whole) is bench.subject


def test_the_same_seed_trains_the_same_network(bench: Workbench, tmp_path: Path) -> None:
    start = halved(bench)
    first = Stages(bench).trained(start).network.state_dict()
    other = Workbench(start_run(replace(bench.recipe, runs=str(tmp_path)), versions()), Silent())
    other.__dict__["network"] = bench.network
    second = Stages(other).trained(start).network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_strategy_is_evaluated_from_its_stage(bench: Workbench) -> None:
    given = Evaluator(bench.subject, FreeMeter(), Training(steps=0), 64)
    strategy, stages = Scripted(), Stages(bench)
    evaluate = StagedEvaluator(strategy, stages, given)  # type: ignore[arg-type]
    start, later = halved(bench), halved(bench, mode="int8")
    assert evaluate(start) == given(start)
    strategy.start = start
    expected = replace(given, subject=stages.trained(start), known={})(later)
    assert evaluate(later).accuracy == expected.accuracy
    assert later.digest() not in given.known


def test_noise_is_learned_once_and_the_pattern_goes_by_it(bench: Workbench) -> None:
    loose = bench.loose
    assert set(loose) == {layer.name for layer in bench.subject.graph.layers}
    assert all(0 <= share <= 99 for share in loose.values())
    choices = {name: Choice(pruner="magnitude", zeros=share) for name, share in loose.items()}
    assert ExpectedLoss(bench.subject)(bench.space.policy(choices)) <= BEARABLE
    again = Workbench(bench.run, Silent())
    assert again.loose == loose
