"""The benchmarks on a network of a few layers: what they report, not how fast anything is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hil_lab.bench import models
from hil_lab.bench.builds import CHANGED_LAYERS, BuildTimes, changed, time_builds
from hil_lab.bench.models import OURS, OURS_INT8, ModelTimes, time_models
from hil_lab.bench.networks import NETWORKS, BenchNetwork, chosen
from hil_lab.bench.own import use_threads
from hil_lab.bench.peers import PeerUnavailable, Threaded, torch_eager
from hil_lab.cli import main
from hil_lab.console import Silent
from host.errors import CallerError
from host.graph import trace_with_plan
from host.lower.targets import refusal
from host.policy import Choice, Space
from host.registry import Registry

pytestmark = pytest.mark.tvm
TINY = BenchNetwork("tiny", "digits-cnn", (1, 8, 8))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(NETWORKS._factories, "tiny", TINY)


def test_builds_are_timed_cold_known_and_changed() -> None:
    times = time_builds(TINY, "cortex-a72", 2, 0, Silent())
    assert (
        len(times.known_s)
        == len(times.changed_s)
        == len(times.compiled)
        == len(times.products)
        == 2
    )
    assert times.cold_s > max(times.known_s)
    assert 0 < times.upload_bytes < 1_000_000
    assert times.to_dict()["changed_median_s"] == pytest.approx(sum(times.changed_s) / 2)


def test_builds_show_what_the_bars_are_on() -> None:
    compiled = (("bit_gemm", "quantize"), ("conv_fp32",))
    times = BuildTimes("n", "t", 5.0, (0.1, 0.3), (0.5, 2.0), compiled, (1, 1), 900_000)
    shows = {show.name: show for show in times.shows()}
    barred = [(show.value, show.bar, show.holds) for show in shows.values() if show.bar]
    assert barred == [
        (1.25, 1.0, False), (0.2, 0.3, True), (5.0, 6.0, True), (2, 2, True), (0.9, 1.0, True),
    ]  # fmt: skip


def test_a_changed_policy_differs_in_two_layers() -> None:
    graph, _ = trace_with_plan(TINY.make(), "tiny", TINY.input_shape, TINY.classes)
    space = Space(graph, refusal)
    wishes = {layer.name: Choice() for layer in graph.layers}
    base = space.policy(wishes)
    for seed in range(5):
        policy = changed(wishes, space, np.random.default_rng(seed))
        pairs = zip(base.layers, policy.layers, strict=True)
        assert sum(a != b for a, b in pairs) == CHANGED_LAYERS


def peers(**prepare: object) -> Registry[object]:
    registry: Registry[object] = Registry("peer")
    for name, function in prepare.items():
        registry.register(name)(function)
    return registry


def broken(network: nn.Module, sample: torch.Tensor) -> Threaded:
    def run() -> np.ndarray:
        raise RuntimeError("no such instruction\nand much more")

    return lambda threads: run


def absent(network: nn.Module, sample: torch.Tensor) -> Threaded:
    raise PeerUnavailable("absent is not installed")


def test_every_contender_runs_every_round_and_the_missing_ones_say_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        models, "FP32_PEERS", peers(eager=torch_eager, absent=absent, broken=broken)
    )
    monkeypatch.setattr(models, "INT8_PEERS", peers())
    one, times = time_models(TINY, (1, 2), 3, Silent())
    assert (one.threads, times.threads) == (1, 2)
    assert set(one.samples_ms) == set(times.samples_ms)
    assert set(times.samples_ms) == {OURS, OURS_INT8, "eager"}
    assert {len(values) for values in times.samples_ms.values()} == {3}
    assert times.unavailable == {
        "absent": "absent is not installed",
        "broken": "broken: no such instruction",
    }
    assert times.error[OURS] < 1e-5
    assert OURS_INT8 not in times.error
    assert times.to_dict()["int8_ratio"] is None


def test_a_ratio_is_against_the_best_peer() -> None:
    times = ModelTimes("n", 1, {OURS: (2.0, 2.0), "a": (3.0,), "b": (8.0, 4.0, 5.0)}, {}, {})
    assert times.ratio(OURS, ["a", "b", "missing"]) == pytest.approx(1.5)
    assert times.ratio(OURS, ["missing"]) is None


def test_models_show_means_and_least_ratios_of_the_networks_that_ran() -> None:
    def times(name: str, ours: float, int8: float) -> ModelTimes:
        samples = {OURS: (ours,), OURS_INT8: (int8,), "torch": (4.0,), "onnxruntime int8": (1.0,)}
        return ModelTimes(name, 1, samples, {}, {})

    some = [times("resnet20", 2.0, 1.0), times("vit-tiny-32", 8.0, 4.0)]
    shows = list(models.shows(some, chosen(["resnet20", "vit-tiny-32"])))
    assert [(show.value, show.bar, show.holds) for show in shows] == [
        (pytest.approx(1.0), 1.1, False),
        (0.5, 0.85, False),
        (pytest.approx(0.5), 1.0, False),
        (2.0, 1.8, True),
    ]
    assert all(show.name.endswith("1 thread (resnet20, vit-tiny-32)") for show in shows)


def test_threads_that_are_no_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "models", "--threads", "1,two"]) == 2
    assert "--threads takes numbers such as 1,2" in capsys.readouterr().err


def test_a_programs_threads_leave_the_others_their_cores() -> None:
    before = os.sched_getaffinity(0)
    use_threads(1)
    assert os.sched_getaffinity(0) == before


def test_an_unknown_network_gets_a_hint() -> None:
    with pytest.raises(CallerError, match='did you mean "resnet20"'):
        chosen(["resnet2"])


@pytest.mark.skipif(shutil.which("llvm-mca") is None, reason="llvm-mca is missing")
def test_kernels_are_listed_by_format(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["bench", "kernels", "--network", "tiny", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert listed["machine"]["cores"] >= 1
    assert {row["format"] for row in listed["kernels"]} == {"fp32", "int8", "a2w2"}
    convs = [row for row in listed["kernels"] if row["kind"] == "conv_fp32"]
    assert convs
    assert all(row["macs_per_cycle"] > 0.5 for row in convs)
    assert code == (0 if all(show["holds"] for show in listed["shows"]) else 1)
    assert [show["bar"] for show in listed["shows"]] == [3.8, 7.6, 0, 0]
    assert all("(tiny)" in show["name"] for show in listed["shows"])
    assert listed["missing"]  # whole layers are those of another network
