"""Influence: what is known by hand for linear networks, and nothing is left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from host.data import load_data
from host.models import make_network
from host.sensitivity.influence import BATCH_IMAGES, influence, weights


class Chain(nn.Module):
    """Two linear layers and one that the logits do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first, self.second, self.idle = nn.Linear(6, 5), nn.Linear(5, 400), nn.Linear(6, 2)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.idle(x)
        return self.second(self.first(x))


def test_a_linear_chain_is_as_reckoned_by_hand() -> None:
    chain = Chain()
    images = torch.randn(BATCH_IMAGES, 6, generator=torch.Generator().manual_seed(2))
    found = influence(chain, ["first", "second", "idle"], images)
    with torch.no_grad():
        hidden, logits = chain.first(images), chain(images)
    reach = chain.second.weight.square().sum(0) @ hidden.var(0, correction=0)
    expected = float(reach.detach() / logits.var(0, correction=0).sum())
    # Random directions stand for all 400 logits.
    assert found["first"] == pytest.approx(expected, rel=0.2)
    assert found["second"] == pytest.approx(1.0, rel=0.2)
    assert found["idle"] == 0.0


@pytest.mark.parametrize("name", ["digits-cnn", "digits-vit"])
def test_every_layer_of_a_network_reaches_the_logits(name: str) -> None:
    data = load_data("digits")
    network: Any = make_network(name, classes=10, input_shape=data.input_shape, seed=0)
    images = data.calibration(64)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    layers = [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    found, again = (weights(network, layers, images) for _ in range(2))
    assert found == again
    assert all(value > 0 for value in found.values())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert not network.training


def test_activations_that_are_changed_in_place_do_not_matter() -> None:
    def made(inplace: bool) -> dict[str, float]:
        network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace), nn.Linear(5, 3)).eval()
        with torch.no_grad():
            for i, parameter in enumerate(network.parameters()):
                parameter.copy_(torch.linspace(-1, 1 + i, parameter.numel()).view_as(parameter))
        images = torch.randn(20, 6, generator=torch.Generator().manual_seed(3))
        return influence(network, ["0", "2"], images)

    assert made(True) == made(False)
