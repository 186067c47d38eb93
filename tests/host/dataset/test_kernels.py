"""Layers alone: what is drawn is legal, and its program is that of the traced layer."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from host.dataset.kernels import KernelRanges, KernelSpace, KernelSpec
from host.dataset.networks import LayerSpace, PolicySpace, Traced
from host.errors import RecipeError
from host.graph import trace_with_plan
from host.lower.build import Builder
from host.lower.importer import import_module
from host.lower.targets import TARGETS, refusal
from host.models import make_network
from host.policy import Policy, Space

TARGET = TARGETS["cortex-a72"]()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_drawn_is_within_its_ranges_and_has_kernels(seed: int) -> None:
    ranges = KernelRanges(channels=(16, 128), size=(6, 20), max_mmacs=5.0)
    spec = KernelSpec(**KernelSpace(TARGET, ranges=ranges).draw(np.random.default_rng(seed)))
    layer = spec.layer
    assert 16 <= spec.in_channels <= 128 and spec.in_channels % 8 == 0
    assert 6 <= spec.size <= 20 and layer.macs <= 5e6
    assert refusal(layer, spec.mode, spec.weight_bits, spec.act_bits) is None
    assert min(spec.out_size) >= 1


@pytest.mark.parametrize(
    ("spec", "module"),
    [
        (KernelSpec("conv", 8, 16, 12, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)),
        (KernelSpec("conv", 8, 16, 9, 1, 1, 0), nn.Conv2d(8, 16, 1)),
        (KernelSpec("depthwise", 24, 24, 10, 5, 1, 2), nn.Conv2d(24, 24, 5, 1, 2, groups=24)),
    ],
)
def test_the_program_is_that_of_the_layer_as_torch_traces_it(
    spec: KernelSpec, module: nn.Module
) -> None:
    traced = import_module(module, spec.graph.input_shape)
    (ours,), (theirs,) = spec.operations.nodes, traced.nodes
    assert (ours.op, ours.shape, dict(ours.attrs)) == (theirs.op, theirs.shape, dict(theirs.attrs))
    assert spec.layer.macs == ours.shape[1] * ours.shape[2] * ours.shape[3] * (
        spec.kernel**2 * spec.in_channels // spec.groups
    )


@pytest.mark.parametrize("mode", ["fp32", "int8"])
def test_equal_layers_have_equal_structures(mode: str) -> None:
    space = KernelSpace(TARGET)
    bits = 8 if mode == "int8" else 32
    spec = dict(
        kind="dense", in_channels=16, out_channels=32, size=5, kernel=1, stride=1, padding=0
    )
    one = space.plan({**spec, "mode": mode, "weight_bits": bits, "act_bits": bits})
    assert one == space.plan({**spec, "mode": mode, "weight_bits": bits, "act_bits": bits})
    other = space.plan({**spec, "size": 6, "mode": mode, "weight_bits": bits, "act_bits": bits})
    assert other.structure != one.structure
    assert sum(row.macs for row in one.rows) >= 5 * 16 * 32


def test_the_first_of_a_grid_are_spread_over_it() -> None:
    first = list(islice(KernelSpace(TARGET).grid(), 40))
    assert {spec["kind"] for spec in first} == {"conv", "depthwise", "dense"}
    assert len({spec["in_channels"] for spec in first}) >= 4
    everything = [str(spec) for spec in KernelSpace(TARGET).grid()]
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ({"kinds": ("conf",)}, 'did you mean "conv"'),
        ({"formats": ()}, "must name something"),
        ({"channels": (8,)}, "the least and the largest"),
        ({"size": (9, 4)}, "the least and the largest"),
    ],
)
def test_impossible_ranges_are_refused(ranges: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        KernelRanges(**ranges)  # type: ignore[arg-type]


def test_ranges_that_hold_nothing_say_so() -> None:
    space = KernelSpace(TARGET, ranges=KernelRanges(kinds=("conv",), max_mmacs=1e-6))
    with pytest.raises(RecipeError, match="small enough"):
        space.draw(np.random.default_rng(0))


@pytest.fixture(scope="module")
def traced() -> Traced:
    network = make_network("resnet8-cifar", classes=10, input_shape=(3, 32, 32))
    return Traced(network, *trace_with_plan(network, "resnet8", (3, 32, 32), 10))


def test_layers_of_a_network_keep_its_sizes(traced: Traced) -> None:
    space = LayerSpace(TARGET, traced=traced)
    uncompressed = [KernelSpec(**spec) for spec in islice(space.grid(), len(traced.graph.layers))]
    for spec, layer in zip(uncompressed, traced.graph.layers, strict=True):
        assert (spec.in_channels, spec.out_channels) == (layer.in_channels, layer.out_channels)
        assert spec.layer.macs == layer.macs
    drawn = KernelSpec(**space.draw(np.random.default_rng(0)))
    assert drawn.kernel in (1, 3)


def test_policies_are_legal_and_named_by_their_programs(traced: Traced) -> None:
    space = PolicySpace(traced, TARGET)
    legal = Space(traced.graph, refusal)
    seen = set()
    for spec in [*islice(space.grid(), 3), space.draw(np.random.default_rng(1))]:
        legal.check(Policy.from_dict(spec))
        seen.add(space.plan(spec).structure)
        assert space.columns(spec)["model"] == "resnet8"
    assert len(seen) == 4


def test_a_policy_is_planned_as_a_search_plans_it(traced: Traced) -> None:
    space = PolicySpace(traced, TARGET)
    spec = next(iter(space.grid()))
    builder = Builder(traced.graph, TARGET, source=traced.network)
    policy = Policy.from_dict(spec)
    rows = builder.rows(builder.plan(traced.network, policy), policy)
    assert [row.kind for row in space.plan(spec).rows] == [row["kind"] for row in rows]
