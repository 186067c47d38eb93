"""Programs of thinned networks: exact, as large as foretold, sparse kernels where they pay."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from host.boards.protocol import QUICK
from host.boards.session import BoardSession
from host.compress.candidate import compress
from host.compress.patterns import PATTERNS
from host.evaluate import Subject
from host.lower.build import Builder
from host.lower.fuse import fuse
from host.lower.importer import import_module
from host.lower.kernels.kernel import Kernel
from host.lower.objects import ObjectCache
from host.lower.select import select
from host.lower.select_blocks import cycles
from host.lower.targets import TARGETS, Target, refusal
from host.policy import Choice, LayerPolicy, Policy, Space
from host.types import Graph
from host.verify import complaints
from tests.host.lower.test_build import data, sample_of, subject  # noqa: F401

pytestmark = pytest.mark.tvm
FORMS = [("fp32", 32), ("int8", 8), ("mix", 4)]
BLOCKS = {"block_fp32", "block_int8"}


def thinned(graph: Graph, pattern: str, zeros: int, mode: str, bits: int) -> Policy:
    """All layers lose so many per cent of their weights but the second, which loses channels."""
    choices = {layer.name: Choice(None, mode, bits, bits, pattern, zeros) for layer in graph.layers}
    second = graph.layers[1]
    choices[second.name] = Choice(second.out_channels * 4 // 5, mode, bits, bits)
    return Space(graph, refusal, round_to=1).policy(choices)


@pytest.mark.parametrize(("mode", "bits"), FORMS)
@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_thinned_programs_are_exact_and_as_large_as_foretold(
    subject: Subject,  # noqa: F811
    cache: ObjectCache,
    target: Target,
    local: BoardSession,
    out: Path,
    pattern: str,
    mode: str,
    bits: int,
) -> None:
    policy = thinned(subject.graph, pattern, 95, mode, bits)
    network = compress(subject.network, policy, subject.plan, subject.data)
    builder = Builder(subject.graph, target, cache=cache, source=subject.network)

    def never() -> nn.Module:
        raise AssertionError("the program is narrowed, not traced")

    predicted = builder.size_bytes(policy, never)
    artifact = builder.build(network, policy, out, sample=sample_of(subject.data))
    blobs = sum(len(artifact.read_blob(w["digest"])) for w in artifact.manifest["weights"])
    assert predicted == artifact.size_bytes == blobs
    dense = builder.size_bytes(thinned(subject.graph, pattern, 0, mode, bits), never)
    assert predicted < dense
    report = local.verify(artifact)
    assert complaints(report) == []
    assert report.output_largest <= 1e-3 * max(report.output_range, 1.0)
    skipping = {r["layer"] for r in artifact.manifest["kernels"] if r["kind"] in BLOCKS}
    assert skipping <= {p.layer for p in policy.layers if p.skipped}
    if (pattern, mode) == ("block", "int8"):
        assert skipping


def test_a_program_that_holds_no_weights_runs_its_blocks(
    subject: Subject,  # noqa: F811
    cache: ObjectCache,
    target: Target,
    local: BoardSession,
    out: Path,
) -> None:
    policy = thinned(subject.graph, "block", 95, "int8", 8)
    network = compress(subject.network, policy, subject.plan, subject.data)
    artifact = Builder(subject.graph, target, cache=cache).build(network, policy, out)
    assert {row["kind"] for row in artifact.manifest["kernels"]} & BLOCKS
    assert local.measure(artifact, QUICK, synthetic_weights=True).samples_ns


def kernel_of(
    layer: nn.Module, shape: tuple[int, int, int], form: LayerPolicy, target: str = "cortex-a72"
) -> Kernel:
    program = fuse(import_module(nn.Sequential(layer).eval(), shape))
    calls = select(program, Policy((form,)), TARGETS[target]()).calls
    return next(c.kernel for c in calls if c.kernel.kind not in ("quantize", "layout"))


@pytest.mark.parametrize(("mode", "bits"), FORMS[:2])
def test_the_kernel_is_the_one_that_is_forecast_faster(mode: str, bits: int) -> None:
    layer, target = nn.Conv2d(64, 64, 3, padding=1), TARGETS["cortex-a72"]()
    kinds, spent = [], []
    for zeros in (0, 10, 50, 80, 95):
        form = LayerPolicy("0", 64, mode, bits, bits, pruner="block", zeros=zeros)
        kernel = kernel_of(layer, (64, 8, 8), form)
        kinds.append(kernel.kind in BLOCKS)
        spent.append(cycles(kernel, target, False))
    assert kinds == sorted(kinds) and not kinds[1] and kinds[-1]
    assert spent == sorted(spent, reverse=True)


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if p != "block"])
def test_zeros_of_other_patterns_are_multiplied_as_ever(pattern: str) -> None:
    layer = nn.Conv2d(16, 16, 3, padding=1)
    forms = [LayerPolicy("0", 16, pruner=pattern, zeros=zeros) for zeros in (0, 90)]
    dense, thin = (kernel_of(layer, (16, 8, 8), form) for form in forms)
    assert dense == thin


def test_grouped_layers_have_no_blocks() -> None:
    layer = nn.Conv2d(16, 16, 3, padding=1, groups=2)
    form = LayerPolicy("0", 16, pruner="block", zeros=90)
    assert kernel_of(layer, (16, 8, 8), form).kind == "grouped_fp32"


def test_dense_products_of_four_bytes_are_harder_to_beat() -> None:
    layer = nn.Conv2d(64, 64, 3, padding=1)
    taken = {}
    for name in ("x86-64", "x86-64-v4-vnni"):
        forms = (LayerPolicy("0", 64, "int8", 8, 8, pruner="block", zeros=z) for z in (50, 95))
        kernels = [kernel_of(layer, (64, 8, 8), form, name) for form in forms]
        taken[name] = [kernel.kind in BLOCKS for kernel in kernels]
    assert taken == {"x86-64": [True, True], "x86-64-v4-vnni": [False, True]}


def test_a_plain_x86_takes_the_kernels_of_the_board(subject: Subject) -> None:  # noqa: F811
    policy = thinned(subject.graph, "block", 80, "int8", 8)
    plans = [
        Builder(subject.graph, TARGETS[name](), source=subject.network).plan_traced(policy)
        for name in ("cortex-a72", "x86-64")
    ]
    skipping = [[c.layer for c in plan.calls if c.kernel.kind in BLOCKS] for plan in plans]
    assert skipping[0] == skipping[1] != []
