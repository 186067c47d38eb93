"""Noise goes where nothing speaks against it: a problem with a known answer, and a network."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from host.compress.patterns import MAGNITUDE, which
from host.compress.variational import NoiseLearning, bearable, learn_noise, noise

USED, INPUTS, IMAGES = 4, 16, 512
# Of the made-up network whose weights go one by one.
WEIGHTS = 4 * 30 + 2 * 8 * 3 * 3
QUICK = NoiseLearning(steps=12, batch_size=32)


def a_classifier() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Two classes that four of sixteen inputs tell apart; the other weights are mere noise."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(IMAGES, INPUTS, generator=generator)
    labels = (x[:, :USED].sum(1) > 0).long()
    network = nn.Sequential(nn.Linear(INPUTS, 2, bias=False))
    weight = 0.002 * torch.randn(2, INPUTS, generator=generator)
    weight[0, :USED] -= 3.0
    weight[1, :USED] += 3.0
    network[0].weight.data.copy_(weight)  # type: ignore[union-attr,operator]
    return network, x, labels


def test_weights_that_tell_nothing_are_found_loose_and_no_others() -> None:
    network, x, labels = a_classifier()
    how = NoiseLearning(steps=400, lr=0.2)
    generator = torch.Generator().manual_seed(1)
    *_, log_alpha = noise(network, ["0"], [(x, labels)] * how.steps, IMAGES, how, generator)
    assert log_alpha["0"][:, :USED].max() < log_alpha["0"][:, USED:].min()

    weight = network[0].weight.detach()
    margins = x @ (weight[1] - weight[0])

    def lost(shares: Mapping[str, int]) -> float:
        """The images whose margin shrinks by more than a tenth."""
        thin = weight * which(network[0], MAGNITUDE, shares["0"] / 100, "0")
        left = x @ (thin[1] - thin[0]) / margins
        return float((left < 0.9).double().mean())

    assert bearable(log_alpha, lost, 0.01) == {"0": 75}


@given(st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_as_much_goes_as_is_bearable(most: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {"one": (4, 30), "two": (2, 8, 3, 3)}
    log_alpha = {name: torch.from_numpy(rng.normal(size=size)) for name, size in sizes.items()}

    def lost(shares: Mapping[str, int]) -> float:
        return sum(share / 100 * log_alpha[n].numel() for n, share in shares.items()) / WEIGHTS

    shares = bearable(log_alpha, lost, most)
    assert lost(shares) <= most
    assert all(0 <= share <= 99 for share in shares.values())
    # To a 256th of all weights, and to a per cent of every layer's.
    assert most - lost(shares) <= 1 / 256 + 2 / 100


def test_nothing_goes_where_everything_hurts(digits) -> None:
    log_alpha = {layer.name: torch.zeros(2, 3) for layer in digits.graph.layers}
    assert set(bearable(log_alpha, lambda shares: 1.0, 0.5).values()) == {0}


def test_the_network_is_left_as_it_was_and_the_same_seed_learns_the_same(digits) -> None:
    layers = [layer.name for layer in digits.graph.layers]
    before = copy.deepcopy(digits.network.state_dict())
    (*_, first), (*_, again) = (
        list(learn_noise(digits.network, layers, digits.data, QUICK)) for _ in range(2)
    )
    assert all(torch.equal(first[name], again[name]) for name in layers)
    assert all(torch.equal(t, before[n]) for n, t in digits.network.state_dict().items())
    assert all(p.requires_grad for p in digits.network.parameters())
    for name in layers:
        assert first[name].shape == digits.network.get_submodule(name).weight.shape
