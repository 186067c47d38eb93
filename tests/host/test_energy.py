"""The accelerator's energy: against what was measured of the chip, and what must hold anyway."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.energy import Accelerator, Work, energy, eyeriss, mappings, millijoules, policy_energy
from host.errors import CallerError
from host.policy import uncompressed, uniform_int8
from tests.host.search.toy import GRAPH, SPACE

CHIP = eyeriss()

# Chen et al., IEEE JSSC 52(1), 2017, tables V and VI: sizes, share of zero inputs, and the power
# (mW) and latency (ms) measured of the chip, without the DRAM.
ALEXNET = [
    (Work(3, 96, (11, 11), (4, 4), (55, 55), 1, 4, input_zeros=0.0001), 332, 20.9),
    (Work(96, 256, (5, 5), (1, 1), (27, 27), 2, 4, input_zeros=0.387), 288, 41.9),
    (Work(256, 384, (3, 3), (1, 1), (13, 13), 1, 4, input_zeros=0.725), 266, 23.6),
    (Work(384, 384, (3, 3), (1, 1), (13, 13), 2, 4, input_zeros=0.793), 235, 18.4),
    (Work(384, 256, (3, 3), (1, 1), (13, 13), 2, 4, input_zeros=0.776), 236, 10.5),
]


def vgg(inputs: int, outputs: int, size: int, zeros: float) -> Work:
    return Work(inputs, outputs, (3, 3), (1, 1), (size, size), 1, 3, input_zeros=zeros)


VGG16 = [
    (vgg(3, 64, 224, 0.016), 247, 76.2),
    (vgg(64, 64, 224, 0.477), 218, 910.3),
    (vgg(64, 128, 112, 0.248), 242, 470.3),
    (vgg(128, 128, 112, 0.387), 231, 894.3),
    (vgg(128, 256, 56, 0.397), 254, 241.1),
    (vgg(256, 256, 56, 0.581), 235, 460.9),
    (vgg(256, 256, 56, 0.587), 233, 457.7),
    (vgg(256, 512, 28, 0.643), 278, 135.8),
    (vgg(512, 512, 28, 0.747), 261, 254.8),
    (vgg(512, 512, 28, 0.854), 240, 246.3),
    (vgg(512, 512, 14, 0.794), 258, 54.3),
    (vgg(512, 512, 14, 0.874), 236, 53.7),
    (vgg(512, 512, 14, 0.885), 230, 53.7),
]
CONV, DENSE = vgg(64, 64, 28, 0.3), Work(4096, 1000, (1, 1), (1, 1), (1, 1))
works = st.builds(
    Work,
    inputs=st.integers(1, 200),
    outputs=st.integers(1, 200),
    kernel=st.sampled_from([(1, 1), (3, 3), (5, 5), (16, 16)]),
    stride=st.sampled_from([(1, 1), (2, 2)]),
    out_size=st.sampled_from([(1, 1), (7, 7), (32, 32), (65, 1)]),
    weight_bits=st.integers(1, 16),
    act_bits=st.integers(1, 16),
    weight_zeros=st.floats(0, 1),
    input_zeros=st.floats(0, 1),
)


@pytest.mark.parametrize("measured", [ALEXNET, VGG16], ids=["alexnet", "vgg16"])
def test_layers_have_the_shares_that_were_measured_of_the_chip(measured: Any) -> None:
    """Nothing is fitted: within 6 points of the sum, and correlated with 0.9."""
    chip = np.asarray([power * latency for _, power, latency in measured])
    model = np.asarray([energy(work, CHIP).chip for work, _, _ in measured])
    np.testing.assert_allclose(model / model.sum(), chip / chip.sum(), atol=0.06)
    assert np.corrcoef(model, chip)[0, 1] > 0.9


def test_registers_take_most_of_convolutions_and_the_dram_most_of_dense_layers() -> None:
    """As in figure 10 of the ISCA paper."""
    conv, dense = energy(CONV, CHIP), energy(DENSE, CHIP)
    assert conv.register > 0.5 * conv.total
    assert dense.dram > 0.9 * dense.total


@settings(deadline=None)
@given(works, st.sampled_from(["weight_bits", "act_bits"]))
def test_fewer_bits_never_cost_more(work: Work, name: str) -> None:
    fewer = replace(work, **{name: max(getattr(work, name) - 1, 1)})
    assert energy(fewer, CHIP).total <= energy(work, CHIP).total + 1e-9


@settings(deadline=None)
@given(works, st.sampled_from(["weight_zeros", "input_zeros", "sparse_outputs"]))
def test_more_zeros_never_cost_more(work: Work, name: str) -> None:
    more = replace(work, **{name: min(getattr(work, name) + 0.1, 1.0)})
    assert energy(more, CHIP).total <= energy(work, CHIP).total + 1e-9


@settings(deadline=None)
@given(works)
def test_every_layout_fits_the_array_and_its_registers(work: Work) -> None:
    rows, columns = work.kernel
    for at in mappings(work, CHIP):
        assert at.filters <= CHIP.sum_words and at.strip <= CHIP.columns
        if rows <= CHIP.rows and columns <= CHIP.input_words:
            assert at.channels * columns <= CHIP.input_words
            assert at.filters * at.channels * columns <= CHIP.weight_words
            assert at.filter_sets * at.channel_sets * rows * at.strip <= CHIP.rows * CHIP.columns
    assert all(value >= 0 for value in energy(work, CHIP).to_dict().values())


def test_a_policy_costs_the_sum_of_its_layers_and_eight_bits_less_than_half() -> None:
    whole = policy_energy(GRAPH, uncompressed(GRAPH), CHIP)
    eight = policy_energy(GRAPH, uniform_int8(SPACE), CHIP)
    assert list(whole) == [layer.name for layer in GRAPH.layers]
    saved = 1 - millijoules(eight, CHIP) / millijoules(whole, CHIP)
    assert 0.3 < saved < 0.6
    gated = policy_energy(GRAPH, uncompressed(GRAPH), CHIP, {"conv1": 0.9})
    assert gated["conv1"].total < whole["conv1"].total
    assert gated["conv2"] == whole["conv2"]


def test_tables_that_lack_an_entry_are_named() -> None:
    tables = tomllib.loads((files("host") / "eyeriss.toml").read_text())
    assert Accelerator.from_dict(tables) == CHIP
    del tables["cost"]["dram"]
    with pytest.raises(CallerError, match="lack or misname an entry"):
        Accelerator.from_dict(tables)
