"""The Fisher information equals single backward passes, for a CNN and a ViT, and is remembered."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from host.data import Data, Split
from host.graph import trace_unpruned
from host.models import make_network
from host.sensitivity import fisher as module_under_test
from host.sensitivity.fisher import fisher
from tests.host.trained import Subject

IMAGES = 6


def by_hand(network: nn.Module, digits: Subject, layers: list[str]) -> dict[str, float]:
    """One backward pass per image; the mean square over a layer's parameters and the images."""
    order = np.random.default_rng(0).permutation(len(digits.data.train))[:IMAGES]
    x = digits.data.calibration(IMAGES)
    labels = torch.from_numpy(digits.data.train.labels[order])
    network = copy.deepcopy(network).eval()
    found = dict.fromkeys(layers, 0.0)
    for one, label in zip(x, labels, strict=True):
        network.zero_grad()
        F.cross_entropy(network(one[None]), label[None]).backward()
        for name in layers:
            own = list(network.get_submodule(name).parameters(recurse=False))
            squares = torch.cat([p.grad.flatten() for p in own]).double().square()
            found[name] += float(squares.mean()) / IMAGES
    return found


@pytest.mark.parametrize("name", ["digits-cnn", "digits-vit"])
def test_figures_are_those_of_single_backward_passes(digits: Subject, name: str) -> None:
    network = make_network(name, classes=10, input_shape=(1, 8, 8), seed=0)
    graph = trace_unpruned(network, name, (1, 8, 8), 10)
    found = fisher(network, graph, digits.data, images=IMAGES)
    expected = by_hand(network, digits, [layer.name for layer in graph.layers])
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, rel=1e-4)


def test_attention_without_a_batched_form_warns_nobody() -> None:
    shape, rng = (3, 32, 32), np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    split = Split(images, np.array([3, 7]))
    data = Data("noise", split, split, split, 10, (0.5,) * 3, (0.25,) * 3)
    network = make_network("vit_tiny_patch16_224", classes=10, input_shape=shape, seed=0)
    graph = trace_unpruned(network, "vit", shape, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(fisher(network, graph, data, images=2)) == len(graph.layers)


@pytest.mark.parametrize("numbers", [1, 20_000])
def test_chunks_change_no_figure(
    digits: Subject, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fisher(digits.network, digits.graph, digits.data, images=IMAGES)
    monkeypatch.setattr(module_under_test, "_CHUNK_NUMBERS", numbers)
    again = fisher(digits.network, digits.graph, digits.data, images=IMAGES)
    assert again == pytest.approx(whole, rel=1e-4)


def test_the_network_stays_as_it_was_even_a_training_one(digits: Subject) -> None:
    network = copy.deepcopy(digits.network).train()
    before = copy.deepcopy(network.state_dict())
    found = fisher(network, digits.graph, digits.data, images=IMAGES)
    assert found == fisher(digits.network, digits.graph, digits.data, images=IMAGES)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_figures_are_remembered_by_weights(
    digits: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fisher(digits.network, digits.graph, digits.data, images=IMAGES, cache_dir=tmp_path)
    monkeypatch.setattr(module_under_test, "_measure", lambda *_: pytest.fail("measured again"))
    again = fisher(digits.network, digits.graph, digits.data, images=IMAGES, cache_dir=tmp_path)
    assert again == first
    changed = copy.deepcopy(digits.network)
    next(changed.parameters()).data.add_(0.1)
    with pytest.raises(pytest.fail.Exception):
        fisher(changed, digits.graph, digits.data, images=IMAGES, cache_dir=tmp_path)
