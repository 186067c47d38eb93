"""The networks that people bring, whole: floats as torch has them, mixtures integer-exact.

On this machine, and under emulation with the Raspberry Pi's instructions.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hil_lab.inventory import open_board
from hil_lab.simboard.emulator import ROOT_VARIABLE, default_root, find_emulator
from host.boards.session import BoardSession
from host.compress.candidate import compress
from host.data import Data, Split
from host.graph import trace_with_plan
from host.lower.build import Builder
from host.lower.objects import ObjectCache
from host.lower.targets import TARGETS, Target, local_target
from host.models import make_network
from host.policy import uncompressed
from host.verify import complaints
from tests.host.lower.models import lively
from tests.host.lower.test_build import mixed_policy
from tests.host.lower.test_sparse_programs import BLOCKS, thinned

pytestmark = [pytest.mark.tvm, pytest.mark.slow]
MODELS = {
    "resnet18": "timm:resnet18",
    "resnet20": "resnet20-cifar",
    "vgg16": "vgg16-cifar",
    "mobilenetv2": "timm:mobilenetv2_100",
    "efficientnet-lite0": "timm:efficientnet_lite0",
    "convnext-atto": "timm:convnext_atto",
    "vit-tiny": "timm:vit_tiny_patch16_224",
    "deit-tiny": "timm:deit_tiny_patch16_224",
    "odd-shapes": "tests.host.lower.models:OddShapes",
}
SMALL, LARGE = 32, 224
# What emulation runs at 224 pixels in seconds; the others have minutes of products.
LIGHT = ("mobilenetv2", "efficientnet-lite0", "convnext-atto", "vit-tiny", "deit-tiny")
emulated = pytest.mark.skipif(
    platform.machine() != "aarch64" and find_emulator() is None,
    reason=f"needs qemu-aarch64 and an arm64 root: .ci/arm64-root {default_root()}, "
    f"or {ROOT_VARIABLE}",
)
BOARDS = ["local", pytest.param("sim:rpi4", marks=emulated)]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> ObjectCache:
    return ObjectCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def boards() -> Iterator[dict[str, BoardSession]]:
    with (
        open_board("local") as here,
        here.lease("tests") as local,
        open_board("sim:rpi4") as there,
        there.lease("tests") as pi,
    ):
        yield {"local": local, "sim:rpi4": pi}


def target_of(board: str) -> Target:
    return local_target() if board == "local" else TARGETS["cortex-a72"]()


def network_of(name: str, size: int) -> nn.Module:
    return lively(make_network(MODELS[name], classes=10, input_shape=(3, size, size)))


def random_data(size: int) -> Data:
    images = np.random.default_rng(0).integers(0, 256, (24, size, size, 3), dtype=np.uint8)
    split = Split(images, np.arange(24) % 10)
    return Data("random", split, split, split, 10, (0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize(
    ("name", "size"), [*((name, SMALL) for name in MODELS), *((name, LARGE) for name in LIGHT)]
)
def test_float_programs_compute_what_torch_does(
    boards: dict[str, BoardSession],
    objects: ObjectCache,
    tmp_path: Path,
    name: str,
    size: int,
    board: str,
) -> None:
    network = network_of(name, size)
    graph, _ = trace_with_plan(network, name, (3, size, size), 10)
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    builder = Builder(graph, target_of(board), cache=objects)
    artifact = builder.build(network, uncompressed(graph), tmp_path, sample=x.numpy())
    report = boards[board].verify(artifact)
    assert report.output_largest <= 1e-5 * report.output_range


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize(
    ("name", "seed"), [*((name, 3) for name in MODELS), *(("odd-shapes", n) for n in range(3))]
)
def test_mixtures_of_formats_and_widths_are_integer_exact(
    boards: dict[str, BoardSession],
    objects: ObjectCache,
    tmp_path: Path,
    name: str,
    seed: int,
    board: str,
) -> None:
    data = random_data(SMALL)
    network = network_of(name, SMALL)
    graph, plan = trace_with_plan(network, name, data.input_shape, data.classes)
    policy = mixed_policy(graph, seed)
    compressed = compress(network, policy, plan, data)
    builder = Builder(graph, target_of(board), cache=objects)
    sample = data.tensor(data.test.images[:1]).numpy()
    artifact = builder.build(compressed, policy, tmp_path, sample=sample)
    assert complaints(boards[board].verify(artifact)) == []


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("mode", ["fp32", "int8"])
@pytest.mark.parametrize("name", ["resnet20", "vit-tiny", "odd-shapes"])
def test_networks_thinned_in_blocks_are_exact(
    boards: dict[str, BoardSession],
    objects: ObjectCache,
    tmp_path: Path,
    name: str,
    mode: str,
    board: str,
) -> None:
    data = random_data(SMALL)
    network = network_of(name, SMALL)
    graph, plan = trace_with_plan(network, name, data.input_shape, data.classes)
    policy = thinned(graph, "block", 95, mode, 32 if mode == "fp32" else 8)
    compressed = compress(network, policy, plan, data)
    builder = Builder(graph, target_of(board), cache=objects)
    sample = data.tensor(data.test.images[:1]).numpy()
    artifact = builder.build(compressed, policy, tmp_path, sample=sample)
    assert {row["kind"] for row in artifact.manifest["kernels"]} & BLOCKS
    report = boards[board].verify(artifact)
    assert complaints(report) == []
    assert report.forced_output_largest <= 1e-3 * report.output_range
