"""Policies: what is legal, what a digest covers, and JSON there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.errors import PolicyError
from host.policy import (
    Choice,
    LayerPolicy,
    Mode,
    Policy,
    Space,
    discretise,
    policy_bops,
    policy_macs,
    program_digest,
    uncompressed,
    uniform_int8,
)
from host.types import Graph, Layer
from tests.host.search.toy import GRAPH, SPACE


def wishes() -> st.SearchStrategy[Choice]:
    bits = st.integers(1, 6)
    return st.builds(
        lambda keep, mode, w, a: {
            "fp32": Choice(keep),
            "int8": Choice(keep, "int8", 8, 8),
            "mix": Choice(keep, "mix", w, a),
        }[mode],
        st.none() | st.integers(1, 64),
        st.sampled_from(["fp32", "int8", "mix"]),
        bits,
        bits,
    )


def policies(space: Space = SPACE) -> st.SearchStrategy[Policy]:
    names = [layer.name for layer in space.graph.layers]
    return st.dictionaries(st.sampled_from(names), wishes()).map(space.policy)


@given(policies())
def test_whatever_is_wished_becomes_legal(policy: Policy) -> None:
    SPACE.check(policy)
    assert all(p.keep >= 1 for p in policy.layers)


@given(policies())
def test_json_there_and_back_keeps_the_digest(policy: Policy) -> None:
    assert Policy.from_dict(policy.to_dict()).digest() == policy.digest()


@given(policies())
def test_macs_never_grow_and_bops_follow_the_bits(policy: Policy) -> None:
    macs, bops = policy_macs(GRAPH, policy), policy_bops(GRAPH, policy)
    for layer, p in zip(GRAPH.layers, policy.layers, strict=True):
        assert 0 < macs[layer.name] <= layer.macs
        assert bops[layer.name] == macs[layer.name] * p.weight_bits * p.act_bits


def test_followers_of_a_pruned_layer_see_fewer_inputs() -> None:
    policy = SPACE.policy({"conv0": Choice(16)})
    macs = policy_macs(GRAPH, policy)
    assert macs["conv0"] == GRAPH["conv0"].macs // 2
    assert macs["conv1"] == GRAPH["conv1"].macs // 2
    assert macs["conv2"] == GRAPH["conv2"].macs


@pytest.mark.parametrize(
    ("levels", "expected"),
    [(6, [6, 6, 5, 5, 4, 4, 3, 2, 2, 1, 1]), (2, [2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1])],
)
def test_discretisation_is_galens_equation_4(levels: int, expected: list[int]) -> None:
    assert [discretise(i / 10, levels) for i in range(11)] == expected


def test_widths_are_multiples_up_to_the_full_one() -> None:
    layer = GRAPH["conv0"]
    assert SPACE.keep_levels(layer) == (8, 16, 24, 32)
    assert SPACE.keep_for(layer, 0.0) == 32
    assert SPACE.keep_for(layer, 1.0) == 8


def test_a_refused_format_falls_to_the_next_and_says_why() -> None:
    def no_mix(layer: Layer, mode: Mode, weight_bits: int, act_bits: int) -> str | None:
        return f"{layer.name}: no bit-serial kernel" if mode == "mix" else None

    space = Space(GRAPH, no_mix)
    policy = space.policy({"conv1": Choice(None, "mix", 2, 2)})
    assert policy["conv1"].mode == "int8"
    bad = Policy(
        tuple(
            LayerPolicy(p.layer, p.keep, "mix", 2, 2) if p.layer == "conv1" else p
            for p in policy.layers
        )
    )
    with pytest.raises(PolicyError, match="conv1: mix is refused: conv1: no bit-serial kernel"):
        space.check(bad)


def test_frozen_layers_stay_whole_and_float() -> None:
    space = Space(GRAPH, lambda *a: None, frozen=frozenset({"conv0"}))
    policy = space.policy({"conv0": Choice(8, "int8", 8, 8)})
    assert policy["conv0"] == LayerPolicy("conv0", 32)


def test_a_program_is_identified_by_structure_network_target_and_threads() -> None:
    whole, int8 = uncompressed(GRAPH), uniform_int8(SPACE)
    names = {
        program_digest(GRAPH, whole, "cortex-a72", 1),
        program_digest(GRAPH, int8, "cortex-a72", 1),
        program_digest(GRAPH, whole, "x86-64", 1),
        program_digest(GRAPH, whole, "cortex-a72", 2),
    }
    assert len(names) == 4
    other = LayerPolicy("conv0", 32, pruner="fisher")
    renamed = Policy((other, *whole.layers[1:]))
    assert renamed.digest() != whole.digest()
    assert renamed.structure_digest() == whole.structure_digest()


@pytest.mark.parametrize(
    "fields",
    [
        {"keep": 0},
        {"mode": "int4"},
        {"mode": "int8", "weight_bits": 4, "act_bits": 8},
        {"mode": "mix", "weight_bits": 7, "act_bits": 2},
    ],
)
def test_impossible_layer_policies_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(PolicyError):
        LayerPolicy(**{"layer": "x", "keep": 4, **fields})  # type: ignore[arg-type]


def test_another_policy_format_is_refused() -> None:
    with pytest.raises(PolicyError, match="format"):
        Policy.from_dict({"format": 0, "layers": []})


def test_a_graph_survives_json() -> None:
    assert Graph.from_dict(GRAPH.to_dict()) == GRAPH
