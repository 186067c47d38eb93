"""Programs for the Raspberry Pi's core compute the integers that the evaluation saw, under qemu."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hil_lab.inventory import open_board
from hil_lab.simboard.emulator import ROOT_VARIABLE, default_root, find_emulator
from host.boards.session import BoardSession
from host.compress.candidate import compress
from host.data import Data, load_data
from host.evaluate import Subject
from host.lower.build import Builder
from host.lower.objects import ObjectCache
from host.lower.targets import TARGETS, refusal
from host.policy import Policy, Space, uniform_int8
from host.verify import complaints
from tests.host.lower.test_build import mixed_policy, sample_of, subject_of
from tests.host.lower.test_sparse_programs import BLOCKS, thinned

SEEDS = range(3)
pytestmark = [
    pytest.mark.tvm,
    pytest.mark.slow,
    pytest.mark.skipif(
        platform.machine() != "aarch64" and find_emulator() is None,
        reason=f"needs qemu-aarch64 and an arm64 root: .ci/arm64-root {default_root()}, "
        f"or {ROOT_VARIABLE}",
    ),
]


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data("digits")


@pytest.fixture(scope="module")
def subject(data: Data) -> Subject:
    return subject_of("digits-cnn", data)


@pytest.fixture(scope="module")
def builder(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    cache = ObjectCache(tmp_path_factory.mktemp("cache"))
    return Builder(subject.graph, TARGETS["cortex-a72"](), cache=cache)


@pytest.fixture(scope="module")
def pi() -> Iterator[BoardSession]:
    with open_board("sim:rpi4") as client, client.lease("tests") as session:
        yield session


@pytest.mark.parametrize("seed", SEEDS)
def test_any_mixture_of_formats_is_integer_exact_on_the_raspberry_pi(
    subject: Subject, builder: Builder, pi: BoardSession, tmp_path: Path, seed: int
) -> None:
    policy = mixed_policy(subject.graph, seed)
    network = compress(subject.network, policy, subject.plan, subject.data)
    artifact = builder.build(network, policy, tmp_path / "artifact", sample=sample_of(subject.data))
    report = pi.verify(artifact)
    assert complaints(report) == []
    quantized = [p.layer for p in policy.layers if p.mode != "fp32"]
    assert [c.layer for c in report.layers] == quantized
    assert all(c.quantize_elements and c.accumulate_elements for c in report.layers)


@pytest.mark.parametrize(("mode", "bits"), [("fp32", 32), ("int8", 8)])
def test_kernels_that_skip_blocks_are_exact_on_the_raspberry_pi(
    subject: Subject, builder: Builder, pi: BoardSession, tmp_path: Path, mode: str, bits: int
) -> None:
    policy = thinned(subject.graph, "block", 90, mode, bits)
    network = compress(subject.network, policy, subject.plan, subject.data)
    artifact = builder.build(network, policy, tmp_path / "artifact", sample=sample_of(subject.data))
    assert {row["kind"] for row in artifact.manifest["kernels"]} & BLOCKS
    report = pi.verify(artifact)
    assert complaints(report) == []
    assert report.output_largest <= 1e-3 * report.output_range


def formats(policy: Policy) -> set[str]:
    return {p.mode for p in policy.layers}


def test_the_mixtures_hold_every_format(builder: Builder) -> None:
    seen = set().union(*(formats(mixed_policy(builder.graph, seed)) for seed in SEEDS))
    assert seen == {"fp32", "int8", "mix"}


def test_the_raspberry_pi_classifies_as_the_network_does(
    subject: Subject, builder: Builder, pi: BoardSession, tmp_path: Path
) -> None:
    policy = uniform_int8(Space(subject.graph, refusal))
    network = compress(subject.network, policy, subject.plan, subject.data)
    artifact = builder.build(network, policy, tmp_path / "artifact", sample=sample_of(subject.data))
    inputs = subject.data.tensor(subject.data.test.images[:64])
    with torch.inference_mode():
        expected = network(inputs).numpy()
    got = pi.infer(artifact, inputs.numpy())
    apart = (np.abs(got - expected) > 1e-3 * np.ptp(expected)).any(axis=1)
    assert apart.mean() <= 0.05  # an image whose activation sits on a rounding boundary
