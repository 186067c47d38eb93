"""Measuring sensitivities: what is remembered changes no figure, and no weight moves."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from host.compress.prune import prune
from host.compress.quantize import calibrate, quantize
from host.models import make_network
from host.policy import Choice
from host.sensitivity.measure import measure
from host.sensitivity.replay import Replay
from host.sensitivity.table import SETTINGS, Setting
from tests.host.networks import space_of
from tests.host.trained import Subject

IMAGES = 96  # two chunks, the second one short


@pytest.fixture(scope="module")
def table(digits: Subject):
    return measure(digits.network, digits.graph, digits.plan, digits.data, images=IMAGES)


def divergence(digits: Subject, changed: torch.nn.Module) -> float:
    """Return KL(changed || original) without any memory."""
    x = digits.data.calibration(IMAGES)
    with torch.inference_mode():
        before, after = (F.log_softmax(n(x).double(), 1) for n in (digits.network, changed))
    return float((after.exp() * (after - before)).sum(1).mean())


@pytest.mark.parametrize("layer", ["stem.0", "down.0", "first.0"])
@pytest.mark.parametrize("tenths", [3, 7])
def test_pruning_figures_are_those_of_the_smaller_network(digits, table, layer, tenths):
    keep = round((1 - tenths / 10) * digits.graph[layer].out_channels)
    policy = space_of(digits.graph).policy({layer: Choice(keep)})
    expected = divergence(digits, prune(digits.network, policy, digits.plan))
    assert table.kl(layer, Setting("prune", tenths / 10)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("layer", ["stem.0", "second.0", "fc"])
@pytest.mark.parametrize(
    ("setting", "choice"),
    [
        (Setting("act", 2), Choice(None, "mix", 6, 2)),
        (Setting("weight", 2), Choice(None, "mix", 2, 6)),
        (Setting("int8", 8), Choice(None, "int8", 8, 8)),
    ],
)
def test_bit_figures_are_those_of_the_quantized_network(digits, table, layer, setting, choice):
    policy = space_of(digits.graph).policy({layer: choice})
    changed = quantize(copy.deepcopy(digits.network), policy)
    calibrate(changed, torch.split(digits.data.calibration(IMAGES), 64))
    expected = divergence(digits, changed)
    assert table.kl(layer, setting) == pytest.approx(expected, rel=0.02, abs=1e-7)


def test_more_compression_hurts_more(table):
    for kind, loose, tight in (("prune", 0.1, 0.9), ("act", 6, 1), ("weight", 6, 1)):
        assert table.kl("wide.0", Setting(kind, loose)) < table.kl("wide.0", Setting(kind, tight))


def test_followers_and_classes_are_flagged_not_guessed(table):
    assert table.kl("second.0", Setting("prune", 0.5)) is None
    assert table.kl("fc", Setting("prune", 0.5)) is None
    assert table.mask("fc")["int8"] == (1.0,)


def test_the_network_is_left_as_it_was(digits):
    before = copy.deepcopy(digits.network.state_dict())
    measure(digits.network, digits.graph, digits.plan, digits.data, images=16)
    after = digits.network.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert not any("forward" in vars(module) for module in digits.network.modules())


def test_a_second_call_reads_the_first_ones_file(digits, tmp_path):
    told: list[tuple[int, int]] = []

    def call(images: int):
        return measure(
            digits.network,
            digits.graph,
            digits.plan,
            digits.data,
            images=images,
            cache_dir=tmp_path,
            on_progress=lambda done, total: told.append((done, total)),
        )

    first = call(16)
    assert told[-1] == (6 * len(SETTINGS), 6 * len(SETTINGS))
    told.clear()
    assert call(16) == first
    assert told == []
    call(8)
    assert told


@pytest.mark.parametrize("name", ["resnet18-cifar", "vit_tiny_patch16_224", "timm:mobilenetv2_100"])
def test_replaying_from_any_layer_gives_the_same_logits(name):
    """Also where the network adds in place."""
    network = make_network(name, classes=10, input_shape=(3, 32, 32))
    replay = Replay(network, torch.randn(2, 3, 32, 32))
    leaves = [n for n, m in network.named_modules() if isinstance(m, torch.nn.Conv2d)]
    for start in leaves[:: max(len(leaves) // 5, 1)]:
        assert torch.equal(replay.run(start), replay.logits)
