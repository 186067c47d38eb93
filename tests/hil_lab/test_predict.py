"""`hil-lab predict`: the model's own figures, operation by operation, in the order given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hil_lab.predict import RUNTIMES, Setup, live_bytes
from hil_lab.simboard.board import SimSettings
from hil_lab.simboard.direct import DirectMeter
from host.graph import trace_unpruned
from host.lower.build import Builder
from host.lower.importer import import_module
from host.lower.program import Node, Program, View
from host.lower.targets import TARGETS
from host.models import make_network
from host.policy import uncompressed
from tests.hil_lab.commands import hil_lab

pytestmark = pytest.mark.tvm


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "conv.pt2"
    exported = torch.export.export(nn.Conv2d(64, 32, 1), (torch.zeros(1, 64, 28, 28),))
    torch.export.save(exported, path)
    return path


def test_our_prediction_is_what_the_simulated_board_takes() -> None:
    network = make_network("digits-cnn", classes=10, input_shape=(1, 8, 8))
    graph = trace_unpruned(network, "digits-cnn", (1, 8, 8), 10)
    meter = DirectMeter(Builder(graph, TARGETS["cortex-a72"]()))
    figures = meter.figures(network, uncompressed(graph))
    done = hil_lab("predict", "digits-cnn", "--json").json["models"][0]
    assert done["latency_ms"] == pytest.approx(figures.latency_ms.value)
    assert done["energy_mj"] == pytest.approx(figures.energy_mj.value)


def test_models_come_in_the_order_given_with_their_layers(file: Path) -> None:
    done = hil_lab("predict", file, "digits-vit", "--runtime", "published", "--json").json
    assert (done["board"], done["runtime"]) == ("sim:rpi4", "published")
    assert [m["name"] for m in done["models"]] == [str(file), "digits-vit"]
    for model in done["models"]:
        assert model["latency_ms"] == pytest.approx(sum(x["ms"] for x in model["layers"]))
        assert model["memory_bytes"] > model["weight_bytes"] > 0
        for layer in model["layers"]:
            assert layer["bound"] in layer["parts_ms"] and layer["why"]
            assert layer["gmacs_per_s"] <= layer["roof_gmacs_per_s"] * 1.001 or not layer["macs"]


def test_a_single_convolution_is_a_tuned_kernel_and_a_network_is_not(file: Path) -> None:
    models = hil_lab("predict", file, "resnet8-cifar", "--runtime", "published", "--json").json
    kernel, network = models["models"]
    assert "RK3399" in kernel["source"] and "Raspberry Pi 4" in network["source"]
    assert kernel["layers"][0]["kind"] == "conv1x1"
    macs = 28 * 28 * 64 * 32
    moved = 4 * 28 * 28 * (64 + 32)
    assert kernel["latency_ms"] == pytest.approx(macs / 11.04e6 + moved / 5.366e6, rel=1e-3)


def test_a_person_reads_the_slowest_operations_and_why() -> None:
    done = hil_lab("predict", "digits-cnn", "--top", "2")
    assert done.status == 0
    lines = done.out.splitlines()
    assert "ms" in lines[0] and lines[1].startswith("digits-cnn")
    assert len(lines) == 7
    assert "do not stay in the 1 MiB cache" in done.out


def test_clock_threads_and_input_change_the_prediction() -> None:
    def ms(*arguments: str) -> float:
        done = hil_lab("predict", *arguments, "--json")
        assert done.status == 0, done.err
        return float(done.json["models"][0]["latency_ms"])

    base = ms("resnet8-cifar")
    assert ms("resnet8-cifar", "--board", "sim:rpi4?clock_mhz=1500") > 1.1 * base
    assert ms("resnet8-cifar", "--threads", "4") < base
    assert ms("resnet8-cifar", "--input", "3x64x64") > 3 * base


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits-cn"], 'did you mean "digits-cnn"'),
        (["digits-cnn", "--runtime", "publishd"], 'did you mean "published"'),
        (["digits-cnn", "--board", "local"], "is not modelled"),
        (["digits-cnn", "--threads", "5"], "1 to 4"),
        (["digits-cnn", "--input", "8x8"], "3x224x224"),
        (["absent.pt2"], "no such file"),
        (["own.module:function"], "torch.export.save"),
        (["digits-cnn", "--runtime", "published", "--threads", "2"], "leave out"),
    ],
)
def test_bad_input_gets_one_sentence(arguments: list[str], said: str) -> None:
    done = hil_lab("predict", *arguments)
    assert done.status == 2
    assert said in done.err and len(done.err.splitlines()) == 1


def test_live_bytes_are_those_of_the_widest_moment() -> None:
    x = View("x", (10,))
    first = Node("a", "pointwise", (x,), (30,))
    second = Node("b", "pointwise", (View("a", (30,)),), (5,))
    third = Node("c", "pointwise", (View("b", (5,)), x), (2,))
    program = Program("x", (10,), (first, second, third), View("c", (2,)))
    # While b is computed: x, which c still needs, a and b.
    assert live_bytes(program) == 4 * (10 + 30 + 5)


def test_every_runtime_explains_every_operation() -> None:
    network = make_network("resnet8-cifar", classes=10, input_shape=(3, 32, 32))
    program = import_module(network, (3, 32, 32))
    for runtime in RUNTIMES:
        found = RUNTIMES[runtime]("resnet8", program, Setup(SimSettings()))
        assert all(found.why(operation) for operation in found.operations)
        assert found.latency_ms > 0
