"""Training from scratch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from host.compress.finetune import accuracy, ratio
from host.data import load_data
from host.train import SMALL, TRANSFORMER, default_training, train


@pytest.mark.slow
def test_the_digits_cnn_reaches_98_percent():
    data = load_data("digits")
    trained = train("digits-cnn", data)
    assert trained.validation >= 0.98
    assert ratio(accuracy(trained.network, "test", data)) >= 0.98


@pytest.mark.slow
def test_the_digits_vit_learns():
    data = load_data("digits")
    trained = train("digits-vit", data, training=replace(TRANSFORMER, epochs=15))
    assert trained.validation >= 0.8


def test_the_same_seed_gives_the_same_network():
    data, short = load_data("digits"), replace(SMALL, epochs=1)
    first, again, other = (
        train("digits-cnn", data, training=short, seed=seed).network.state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


def test_transformers_are_trained_in_their_own_way():
    data = load_data("digits")
    assert default_training("digits-vit", data) == TRANSFORMER
    assert default_training("digits-cnn", data) == SMALL
