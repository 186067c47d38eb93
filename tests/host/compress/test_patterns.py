"""Fine-grained pruning: as many weights as were asked for, in their pattern, and they stay gone."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from host.compress.finetune import Training, accuracy, finetune
from host.compress.patterns import PATTERNS, which
from host.energy import eyeriss, policy_energy
from host.errors import CallerError, PolicyError
from host.evaluate import Subject
from host.policy import Choice, LayerPolicy, Policy, uncompressed
from host.sparsity import BLOCK_OUTPUTS, RUN, TWO_OF_FOUR, kept
from tests.host.networks import space_of

magnitudes = arrays(
    np.float64, st.tuples(st.integers(1, 13), st.integers(1, 40)), elements=st.floats(0, 1)
)


@settings(deadline=None)
@given(magnitudes, st.integers(1, 99), st.sampled_from(list(PATTERNS)))
def test_what_stays_is_known_from_sizes_and_share_alone(weights, zeros, name):
    stays = PATTERNS[name](weights, zeros / 100, np.random.default_rng(0))
    expected = kept(LayerPolicy("a", 1, pruner=name, zeros=zeros), *weights.shape)
    assert stays[:: expected.height].sum() == expected.count
    assert stays.any(1).all()


@settings(deadline=None)
@given(magnitudes, st.floats(0, 0.99))
def test_the_share_goes_but_for_one_weight_of_every_output(weights, share):
    stays = PATTERNS["magnitude"](weights, share, np.random.default_rng(0))
    gone, wanted = int((~stays).sum()), round(share * weights.size)
    assert gone == min(wanted, weights.size - len(weights))
    others = weights[stays & (weights < weights.max(1, keepdims=True))]
    assert gone == 0 or others.size == 0 or others.min() >= weights[~stays].max()


@settings(deadline=None)
@given(magnitudes, st.floats(0, 0.99))
def test_blocks_go_together(weights, share):
    stays = PATTERNS["block"](weights, share, np.random.default_rng(0))
    for start in range(0, len(weights), BLOCK_OUTPUTS):
        rows = stays[start : start + BLOCK_OUTPUTS]
        assert (rows == rows[0]).all()
    assert stays.any(1).all()


@settings(deadline=None)
@given(magnitudes)
def test_two_of_four_stay_and_they_are_the_largest(weights):
    stays = PATTERNS[TWO_OF_FOUR](weights, 0.9, np.random.default_rng(0))
    for start in range(0, weights.shape[1], RUN):
        stay, run = stays[:, start : start + RUN], weights[:, start : start + RUN]
        assert (stay.sum(1) == min(2, stay.shape[1])).all()
        for k, w in zip(stay, run, strict=True):
            assert not (~k).any() or w[k].min() >= w[~k].max()


def thinned(subject: Subject, pruner: str, zeros: int, mode: str, bits: int) -> Policy:
    """Every layer loses so many per cent of its weights."""
    choices = {
        layer.name: Choice(None, mode, bits, bits, pruner, zeros) for layer in subject.graph.layers
    }
    return space_of(subject.graph).policy(choices)


@pytest.fixture(scope="module")
def subject(digits) -> Subject:
    network = copy.deepcopy(digits.network)
    return Subject(network, digits.graph, digits.plan, digits.data)


@pytest.mark.parametrize(("mode", "bits"), [("fp32", 32), ("int8", 8), ("mix", 4)])
@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_solving_and_training_bring_no_weight_back(subject, pattern, mode, bits):
    policy = thinned(subject, pattern, 50, mode, bits)
    network = subject.compressed(policy)
    training = Training(steps=3, batch_size=64, lr=0.01)
    finetune(network, subject.data, training, generator=torch.Generator().manual_seed(0))
    for form in policy.layers:
        assert form.zeros == 50
        layer = network.get_submodule(form.layer)
        share = float((layer.weight == 0).double().mean())
        assert share == pytest.approx(0.5, abs=0.1), form.layer
        expected = which(subject.network.get_submodule(form.layer), pattern, 0.5, form.layer)
        assert not bool(layer.weight[~expected].any())


def test_solved_weights_make_up_for_what_went(subject):
    """Half of the weights gone: solved, more images stay right than with the old weights."""
    policy = thinned(subject, "magnitude", 70, "fp32", 32)
    solved = accuracy(subject.compressed(policy), "validation", subject.data)
    plain = replace(subject, reconstruction=False)
    unsolved = accuracy(plain.compressed(policy), "validation", subject.data)
    assert solved[0] > unsolved[0]


@pytest.mark.parametrize(
    ("pattern", "mode", "bits"), [("magnitude", "int8", 8), ("block", "mix", 4)]
)
def test_zeros_that_no_kernel_skips_leave_the_program(subject, pattern, mode, bits):
    dense, thin = (thinned(subject, pattern, zeros, mode, bits) for zeros in (0, 40))
    assert dense.structure_digest() == thin.structure_digest()


@pytest.mark.parametrize(("mode", "bits"), [("fp32", 32), ("int8", 8)])
def test_blocks_of_zeros_make_another_program(subject, mode, bits):
    programs = [thinned(subject, "block", zeros, mode, bits) for zeros in (0, 40, 50)]
    assert len({policy.structure_digest() for policy in programs}) == 3


def test_the_policy_tells_of_its_zeros(subject):
    dense, thin = (thinned(subject, "block", zeros, "int8", 8) for zeros in (0, 40))
    assert dense.digest() != thin.digest()
    assert Policy.from_dict(thin.to_dict()) == thin
    assert all("zeros" not in layer for layer in dense.to_dict()["layers"])


def test_zeros_spare_energy_where_they_are_gated(subject):
    dense, thin = (thinned(subject, "block", zeros, "int8", 8) for zeros in (0, 40))
    costs = [policy_energy(subject.graph, p, eyeriss()) for p in (dense, thin)]
    assert all(costs[1][name].total < costs[0][name].total for name in costs[0])


def test_what_cannot_be_is_refused(subject):
    with pytest.raises(PolicyError, match="0 to 99 per cent"):
        LayerPolicy("a", 4, zeros=100)
    with pytest.raises(PolicyError, match="never zero"):
        LayerPolicy("a", 4, "mix", 1, 4, zeros=10)
    one_bit = thinned(subject, "magnitude", 50, "mix", 1)
    assert {p.zeros for p in one_bit.layers if p.weight_bits == 1} <= {0}
    network = copy.deepcopy(subject.network)
    with pytest.raises(CallerError, match='did you mean "magnitude"'):
        which(network.get_submodule(subject.graph.layers[0].name), "magnitud", 0.5, "x")
    assert (
        uncompressed(subject.graph).to_dict() == thinned(subject, "block", 0, "fp32", 32).to_dict()
    )
