"""Shares of zeros in what layers read."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from host.sensitivity.zeros import input_zeros


def test_zeros_are_counted_where_a_layer_reads() -> None:
    network = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 3)).train()
    network[0].weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    found = input_zeros(network, ["0", "2"], torch.tensor([[2.0, 0.0]] * 3))
    assert found == pytest.approx({"0": 0.5, "2": 0.5})
    assert network.training
