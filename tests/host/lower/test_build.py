"""From a network to an artifact that computes what the network computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from host.boards.session import BoardSession
from host.compress.candidate import compress, shaped
from host.data import Data, load_data
from host.errors import ArtifactRejected
from host.evaluate import Subject
from host.graph import trace_with_plan
from host.lower.build import Builder
from host.lower.narrow import CannotNarrow
from host.lower.objects import ObjectCache
from host.lower.targets import TARGETS, Target, refusal
from host.models import make_network
from host.policy import Choice, Policy, Space, uncompressed, uniform_int8
from host.types import Graph
from host.verify import complaints
from tests.host.lower.models import SMALL_MODELS

pytestmark = pytest.mark.tvm


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data("digits")


def subject_of(name: str, data: Data) -> Subject:
    network = make_network(name, classes=10, input_shape=data.input_shape, seed=0)
    with torch.no_grad():
        network.train()(data.calibration(64))  # batch norms with lives of their own
    network.eval()
    graph, plan = trace_with_plan(network, name, data.input_shape, data.classes)
    return Subject(network, graph, plan, data)


@pytest.fixture(scope="module", params=["digits-cnn", "digits-vit"])
def subject(request: pytest.FixtureRequest, data: Data) -> Subject:
    return subject_of(request.param, data)


def mixed_policy(graph: Graph, seed: int) -> Policy:
    """A random legal policy with every number format and odd widths."""
    rng = np.random.default_rng(seed)
    space = Space(graph, refusal, round_to=1)
    choices = {}
    for layer in graph.layers:
        mode = rng.choice(["fp32", "int8", "mix"])
        bits = {"fp32": (32, 32), "int8": (8, 8), "mix": tuple(rng.integers(1, 7, 2).tolist())}
        keep = int(rng.integers(1, layer.out_channels + 1))
        choices[layer.name] = Choice(keep, mode, *bits[mode])
    return space.policy(choices)


def sample_of(data: Data) -> np.ndarray:
    return data.tensor(data.validation.images[:1]).numpy()


@pytest.mark.parametrize("seed", range(3))
def test_any_mixture_of_formats_and_widths_is_integer_exact(
    subject: Subject, cache: ObjectCache, target: Target, local: BoardSession, out: Path, seed: int
) -> None:
    policy = mixed_policy(subject.graph, seed)
    network = compress(subject.network, policy, subject.plan, subject.data)
    builder = Builder(subject.graph, target, cache=cache)
    artifact = builder.build(network, policy, out, sample=sample_of(subject.data))
    report = local.verify(artifact)
    assert complaints(report) == []
    quantized = [p.layer for p in policy.layers if p.mode != "fp32"]
    assert [c.layer for c in report.layers] == quantized


@pytest.mark.parametrize("seed", range(2))
def test_the_bytes_of_an_artifact_are_known_before_it_is_built(
    subject: Subject, cache: ObjectCache, target: Target, out: Path, seed: int
) -> None:
    policy = mixed_policy(subject.graph, seed)

    def never() -> nn.Module:
        raise AssertionError("the program is narrowed, not traced")

    builder = Builder(subject.graph, target, cache=cache, source=subject.network)
    predicted = builder.size_bytes(policy, never)
    network = compress(subject.network, policy, subject.plan, subject.data)
    artifact = builder.build(network, policy, out, sample=sample_of(subject.data))
    blobs = sum(len(artifact.read_blob(w["digest"])) for w in artifact.manifest["weights"])
    assert predicted == artifact.size_bytes == blobs


def test_bytes_are_predicted_for_any_policy_with_and_without_a_trace(
    subject: Subject, cache: ObjectCache, target: Target
) -> None:
    narrowed = Builder(subject.graph, target, cache=cache, source=subject.network)
    traced = Builder(subject.graph, target, cache=cache)
    for seed in range(10, 14):
        policy = mixed_policy(subject.graph, seed)

        def made(policy: Policy = policy) -> nn.Module:
            return shaped(subject.network, policy, subject.plan)

        assert narrowed.size_bytes(policy, made) == traced.size_bytes(policy, made)


def test_the_compiled_program_classifies_as_the_network_does(
    data: Data, cache: ObjectCache, target: Target, local: BoardSession, out: Path
) -> None:
    subject = subject_of("digits-cnn", data)
    policy = uniform_int8(Space(subject.graph, refusal))
    network = compress(subject.network, policy, subject.plan, data)
    builder = Builder(subject.graph, target, cache=cache)
    artifact = builder.build(network, policy, out, sample=sample_of(data))
    inputs = data.tensor(data.test.images[:64])
    with torch.inference_mode():
        expected = network(inputs).numpy()
    got = local.infer(artifact, inputs.numpy())
    apart = (np.abs(got - expected) > 1e-3 * np.ptp(expected)).any(axis=1)
    assert apart.mean() <= 0.05  # an image whose activation sits on a rounding boundary
    assert (got.argmax(1) == expected.argmax(1)).mean() >= 0.95


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_float_programs_match_torch(
    name: str, cache: ObjectCache, target: Target, local: BoardSession, out: Path
) -> None:
    network, shape = SMALL_MODELS[name]()
    graph = Graph(name, shape, 10, ())
    builder = Builder(graph, target, cache=cache)
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    artifact = builder.build(network, Policy(()), out, sample=x.numpy())
    report = local.verify(artifact)
    assert report.output_largest <= 1e-4 * max(report.output_range, 1.0)


def test_the_batch_norm_of_a_quantized_layer_is_in_its_scale(
    data: Data, cache: ObjectCache, target: Target, out: Path
) -> None:
    subject = subject_of("digits-cnn", data)
    policy = uniform_int8(Space(subject.graph, refusal))
    network = compress(subject.network, policy, subject.plan, data)
    plan = Builder(subject.graph, target, cache=cache).plan(network, policy)
    kinds = [call.kernel.kind for call in plan.calls]
    assert "elementwise" not in kinds
    assert kinds.count("int8_conv") == len(subject.graph.layers)


def test_weights_travel_at_their_real_bit_width(
    data: Data, cache: ObjectCache, target: Target, out: Path
) -> None:
    subject = subject_of("digits-cnn", data)
    space = Space(subject.graph, refusal)
    policy = space.policy({"second.0": Choice(None, "mix", 3, 4)})
    network = compress(subject.network, policy, subject.plan, data)
    artifact = Builder(subject.graph, target, cache=cache).build(
        network, policy, out, sample=sample_of(data)
    )
    rows = {row["name"]: row for row in artifact.manifest["weights"]}
    weights = subject.network.get_submodule("second.0").weight.numel()
    assert rows["second.0:bit_weight"]["bytes"] == 3 * weights // 8
    assert artifact.size_bytes == sum(row["bytes"] for row in rows.values())


def test_a_new_policy_compiles_only_kernels_never_seen(
    data: Data, tmp_path: Path, target: Target
) -> None:
    subject = subject_of("digits-cnn", data)
    cache = ObjectCache(tmp_path)
    builder = Builder(subject.graph, target, cache=cache)
    space = Space(subject.graph, refusal)
    first = uniform_int8(space)
    second = replace_format(first, "first.0", Choice(None, "mix", 2, 2), space)
    counts = []
    for policy in (first, first, second):
        before = cache.compiled
        network = compress(subject.network, policy, subject.plan, data)
        builder.build(network, policy, tmp_path / policy.digest())
        counts.append(cache.compiled - before)
    assert counts[0] > 0
    assert counts[1] == 0
    assert 0 < counts[2] <= 3


def replace_format(policy: Policy, name: str, wish: Choice, space: Space) -> Policy:
    changed = [
        replace(p, mode=wish.mode, weight_bits=wish.weight_bits, act_bits=wish.act_bits)
        if p.layer == name
        else p
        for p in policy.layers
    ]
    made = Policy(tuple(changed))
    space.check(made)
    return made


def test_a_latency_artifact_holds_the_library_alone(
    data: Data, cache: ObjectCache, target: Target, out: Path
) -> None:
    subject = subject_of("digits-cnn", data)
    policy = uncompressed(subject.graph)
    artifact = Builder(subject.graph, target, cache=cache).build(subject.network, policy, out)
    assert [p.name for p in (out / "blobs").iterdir()] == [artifact.manifest["library"]["digest"]]
    assert artifact.manifest["golden"] is None
    with pytest.raises(ArtifactRejected, match="holds no weights"):
        list(artifact.blobs())


@pytest.mark.parametrize("seed", range(2))
def test_a_latency_artifact_is_the_whole_one_without_its_bytes(
    subject: Subject, cache: ObjectCache, target: Target, out: Path, seed: int
) -> None:
    """One built from a trace of the pruned network, the other from the whole network's."""
    policy = mixed_policy(subject.graph, seed)
    network = compress(subject.network, policy, subject.plan, subject.data)
    builder = Builder(subject.graph, target, cache=cache)
    whole = builder.build(network, policy, out / "whole", sample=sample_of(subject.data))
    narrowing = Builder(subject.graph, target, cache=cache, source=subject.network)
    bare = narrowing.build(network, policy, out / "bare")
    assert bare.size_bytes == whole.size_bytes
    stripped = [{**row, "digest": None} for row in whole.manifest["weights"]]
    assert bare.manifest == {**whole.manifest, "weights": stripped, "golden": None}


def test_a_network_that_cannot_be_narrowed_is_traced(
    data: Data, cache: ObjectCache, target: Target, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = subject_of("digits-cnn", data)
    policy = mixed_policy(subject.graph, 0)
    network = compress(subject.network, policy, subject.plan, data)
    expected = Builder(subject.graph, target, cache=cache).plan(network, policy)

    def refuse(*_: object) -> None:
        raise CannotNarrow("x")

    monkeypatch.setattr("host.lower.build.narrow", refuse)
    source = Builder(subject.graph, target, cache=cache, source=subject.network)
    assert source.plan(network, policy) == expected


@pytest.mark.slow
def test_the_same_policy_builds_for_the_raspberry_pi(
    data: Data, cache: ObjectCache, out: Path
) -> None:
    subject = subject_of("digits-cnn", data)
    policy = mixed_policy(subject.graph, 1)
    network: nn.Module = compress(subject.network, policy, subject.plan, data)
    target = TARGETS["cortex-a72"]()
    artifact = Builder(subject.graph, target, cache=cache).build(
        network, policy, out, sample=sample_of(data)
    )
    library = artifact.read_blob(artifact.manifest["library"]["digest"])
    assert library[:4] == b"\x7fELF"
    assert library[18] == 0xB7  # EM_AARCH64
