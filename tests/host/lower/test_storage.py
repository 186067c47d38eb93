"""Weights that patterns thin: stored sparse where that is less, and whole again when loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from device_agent.errors import Rejected
from device_agent.weights import unpack
from host.compress.patterns import PATTERNS, thin
from host.compress.quantize import quantize
from host.errors import PolicyError
from host.lower.fuse import fuse
from host.lower.importer import import_module
from host.lower.plan import Weight
from host.lower.select import select
from host.lower.storage import DENSE, packed_bytes, row
from host.lower.targets import MIN_MIX_CHANNELS, TARGETS
from host.lower.weights import pack
from host.policy import LayerPolicy, Policy
from host.sparsity import BLOCK_OUTPUTS

FORMS = [("fp32", 32), ("int8", 8), ("mix", 4)]


def conv(inputs: int, outputs: int, kernel: int, groups: int = 1) -> tuple[nn.Module, torch.Size]:
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)
    return layer, torch.Size((inputs, 6, 7))


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.Module, torch.Size]:
    """A convolution of any kind or a linear layer, and the shape of its input."""
    inputs, outputs = draw(st.integers(1, 21)), draw(st.integers(1, 21))
    kernel = draw(st.sampled_from([1, 3, 4]))
    kind = draw(st.sampled_from(["conv", "depthwise", "grouped", "linear"]))
    if kind == "linear":
        return nn.Linear(inputs, outputs), torch.Size((inputs,))
    if kind == "depthwise":
        return conv(inputs, inputs, kernel, inputs)
    return (
        conv(2 * inputs, 2 * outputs, kernel, 2)
        if kind == "grouped"
        else conv(inputs, outputs, kernel)
    )


def legal(module: nn.Module, mode: str) -> bool:
    """Whether there is a kernel for the layer in a number format."""
    groups, inputs = getattr(module, "groups", 1), module.weight.shape[1]
    if groups > 1:
        return mode == "fp32" or (mode == "int8" and inputs == 1 and groups == len(module.weight))
    return mode != "mix" or inputs >= MIN_MIX_CHANNELS


def thinned_weights(
    module: nn.Module, shape: torch.Size, form: LayerPolicy, target: str
) -> tuple[list[Weight], nn.Module]:
    """Return a network of one thinned layer, and its plan's weights."""
    network = nn.Sequential(module).eval()
    program = fuse(import_module(network, tuple(shape)))
    plan = select(program, Policy((form,)), TARGETS[target]())
    return list(plan.weights), quantize(thin(network, Policy((form,))), Policy((form,)))


def sparse_weights(
    module: nn.Module, shape: torch.Size, form: LayerPolicy, target: str
) -> Iterator[tuple[Weight, nn.Module]]:
    weights, network = thinned_weights(module, shape, form, target)
    yield from ((w, network) for w in weights if w.role in (*DENSE, "block_weight"))


def plain(weight: Weight, network: nn.Module) -> np.ndarray:
    """Return the weights of a layer as [outputs, unknowns] in the order (C, KW, KH)."""
    layer = network.get_submodule(weight.path)
    values = layer.weight if weight.params["values"] == "float32" else layer.weight_codes()
    values = values.detach().numpy()
    values = values.reshape(*values.shape, *[1] * (4 - values.ndim))
    return values.transpose(0, 1, 3, 2).reshape(len(values), -1)


def walked(row: dict[str, Any], stream: np.ndarray) -> np.ndarray:
    """Return the weights [outputs, unknowns] that a walk over blocks meets."""
    n, depth, kind = row["n"], row["depth"], np.dtype(row["values"])
    rows = -(-n // BLOCK_OUTPUTS)
    ends, steps = stream[: rows + 1], (len(stream) - rows - 1) // (depth + 4)
    starts = stream[rows + 1 : rows + 1 + depth * steps]
    words = stream[rows + 1 + depth * steps :].reshape(steps, 4).copy()
    runs = {u // row["lines"] * row["plane"] + u % row["lines"] * row["line"]: u
            for u in range(row["unknowns"])}  # fmt: skip
    found = np.zeros((rows * BLOCK_OUTPUTS, row["unknowns"]), kind)
    for output, step in ((o, s) for o in range(rows) for s in range(ends[o], ends[o + 1])):
        values = words[step].view(kind)
        for k, o in np.ndindex(depth, BLOCK_OUTPUTS):
            at = o if depth == 1 else 8 * (k // 2) + 2 * o + k % 2
            found[output * BLOCK_OUTPUTS + o, runs[starts[step * depth + k]]] += values[at]
    return found[:n]


@settings(deadline=None, max_examples=60)
@given(
    layers(),
    st.sampled_from(FORMS),
    st.sampled_from(list(PATTERNS)),
    st.integers(0, 99),
    st.sampled_from(["cortex-a72", "x86-64"]),
)
def test_what_is_stored_is_what_was_planned_and_expands_to_the_dense_weights(
    made, form, pattern, zeros, target
):
    (module, shape), (mode, bits) = made, form
    if not legal(module, mode):
        mode, bits = "fp32", 32
    policy = LayerPolicy("0", len(module.weight), mode, bits, bits, pruner=pattern, zeros=zeros)
    for weight, network in sparse_weights(module, shape, policy, target):
        packed = pack(weight, network)
        assert len(packed.data) == packed.row["bytes"] == row(weight)["bytes"]
        found = unpack(packed.row, packed.data)
        if packed.row["encoding"] == "blocks":
            np.testing.assert_array_equal(walked(packed.row, found), plain(weight, network))
            continue
        dense = pack(replace(weight, kept=None), network)
        assert len(packed.data) <= len(dense.data)
        np.testing.assert_array_equal(found, unpack(dense.row, dense.data))


@pytest.mark.parametrize(("mode", "bits"), FORMS)
@pytest.mark.parametrize("pattern", ["block", "magnitude"])
def test_weights_that_stay_and_happen_to_be_zero_change_no_size(pattern, mode, bits):
    module, shape = conv(16, 16, 3)
    form = LayerPolicy("0", 16, mode, bits, bits, pruner=pattern, zeros=60)
    for weight, network in sparse_weights(module, shape, form, "x86-64"):
        before = pack(weight, network)
        module.weight.data[:, 3:] = 0
        assert len(pack(weight, network).data) == len(before.data) == packed_bytes(weight)


@pytest.mark.parametrize(
    ("pattern", "mode", "bits", "share"),
    [  # a bit for every unit, and what stays, of so many bits
        ("magnitude", "fp32", 32, (1 + 32 / 4) / 32),
        ("block", "fp32", 32, (1 / 4 + 32 / 4) / 32),
        ("2:4", "fp32", 32, (1 + 32 / 2) / 32),
        ("magnitude", "int8", 8, (1 + 8 / 4) / 8),
        ("block", "int8", 8, (1 / 4 + 8 / 4) / 8),
        ("2:4", "int8", 8, (1 + 8 / 2) / 8),
        ("block", "mix", 4, (1 / 4 + 4 / 4) / 4),
    ],
)
def test_three_quarters_of_zeros_take_few_bytes(pattern, mode, bits, share):
    module, shape = conv(64, 64, 3)
    form = LayerPolicy("0", 64, mode, bits, bits, pruner=pattern, zeros=75)
    ((weight, _),) = sparse_weights(module, shape, form, "x86-64")
    assert packed_bytes(weight) == share * 64 * 64 * 9 * bits / 8


@pytest.mark.parametrize("harm", ["short", "long", "none", "map", "beyond", "dense", "height"])
def test_what_does_not_fit_is_refused(harm):
    module, shape = conv(5, 5, 3)
    form = LayerPolicy("0", 5, pruner="magnitude", zeros=60)
    ((weight, network),) = sparse_weights(module, shape, form, "x86-64")
    packed = pack(weight, network)
    data, fields = bytearray(packed.data), dict(packed.row)
    assert fields["encoding"] == "sparse"
    if harm == "short":
        del data[-4:]
    elif harm == "long":
        data += bytes(4)
    elif harm == "none":
        data.clear()
    elif harm == "map":
        data[0] ^= 1
    elif harm == "beyond":  # 225 weights: the last seven bits of the map stand for nothing
        data[28] ^= 128
    else:
        fields |= {"dense": {"dense": "sparse"}, "height": {"height": 0}}[harm]
    with pytest.raises(Rejected, match="0:conv_weight: "):
        unpack(fields, bytes(data))


def test_a_network_that_is_not_thinned_does_not_fit_its_policy():
    module, shape = conv(5, 5, 3)
    form = LayerPolicy("0", 5, pruner="magnitude", zeros=60)
    ((weight, network),) = sparse_weights(module, shape, form, "x86-64")
    del network[0].kept_weights
    with pytest.raises(PolicyError, match="has all of its weights"):
        pack(weight, network)
