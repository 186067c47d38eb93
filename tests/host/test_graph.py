"""Tracing: layers in order of execution and their channel groups."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from host.errors import UnsupportedLayer
from host.graph import trace, trace_unpruned, trace_with_plan
from host.models import make_network
from host.types import Graph, Source


def graph_of(name: str, shape: tuple[int, int, int] = (3, 32, 32)) -> Graph:
    return trace(make_network(name, classes=10, input_shape=shape), name, shape, 10)


def test_digits_cnn_has_four_drivers_one_of_them_coupled():
    graph = graph_of("digits-cnn", (1, 8, 8))
    assert [layer.name for layer in graph.drivers] == ["stem.0", "wide.0", "down.0", "first.0"]
    assert graph["second.0"].group == "down.0"
    assert graph["fc"].sources == (Source("down.0", 64),)
    assert graph["fc"].group == ""
    assert 2_900_000 < graph.macs < 3_000_000


def test_option_a_streams_stay_whole_and_first_convolutions_are_prunable():
    graph = graph_of("cifar-resnet20")
    assert len(graph.layers) == 20
    assert [layer.name for layer in graph.drivers] == [
        f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1, 2)
    ]
    assert graph["layer2.0.conv1"].sources == (Source("", 16),)


def test_resnet18_has_galens_twelve_decisions():
    graph = graph_of("resnet18-cifar")
    assert len(graph.drivers) == 12
    assert graph.drivers[0].name == "conv1"
    assert graph["layer2.0.downsample.0"].group == "layer2.0.conv2"
    assert graph.macs == 555_422_720


@pytest.mark.parametrize("name", ["digits-vit", "vit_tiny_patch16_224"])
def test_transformers_prune_their_hidden_units_only(name):
    shape = (1, 8, 8) if name == "digits-vit" else (3, 32, 32)
    graph = graph_of(name, shape)
    assert graph.drivers
    assert all(layer.name.endswith("fc1") for layer in graph.drivers)
    assert graph.drivers[0].out_size == (1, 16 if name == "digits-vit" else 5)


def test_depthwise_convolutions_follow_their_producer():
    graph = graph_of("timm:mobilenetv2_100")
    depthwise = graph["blocks.1.0.conv_dw"]
    assert depthwise.depthwise
    assert depthwise.group == "blocks.1.0.conv_pw"
    assert depthwise.sources == (Source("blocks.1.0.conv_pw", 96),)


class Awkward(nn.Module):
    """Concatenation, a flattened feature map and a layer that is used twice on request."""

    def __init__(self, twice: bool = False) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 4, 3, padding="same")
        self.c = nn.Conv2d(12, 6, 1)
        self.fc = nn.Linear(6 * 16, 10)
        self.twice = twice

    def forward(self, x):
        x = self.c(torch.cat([self.a(x), self.b(x)], 1).relu()).relu()
        x = self.fc(x.flatten(1))
        return x + self.fc(torch.zeros(1, 6 * 16)) if self.twice else x


def test_concatenation_gives_several_sources_and_flattening_many_channels():
    graph = trace(Awkward(), "awkward", (3, 4, 4), 10)
    assert graph["c"].sources == (Source("a", 8), Source("b", 4))
    assert graph.in_channels(graph["c"], {"a": 4, "b": 1}) == 5
    assert graph["fc"].sources == (Source("c", 6 * 16),)
    assert graph.in_channels(graph["fc"], {"c": 2}) == 2 * 16
    assert graph["b"].padding == (1, 1)


def test_without_groups_the_layers_are_the_same_and_nothing_is_prunable():
    network = make_network("digits-cnn", classes=10, input_shape=(1, 8, 8), seed=0)
    arguments = (network, "digits-cnn", (1, 8, 8), 10)
    whole, bare = trace(*arguments), trace_unpruned(*arguments)
    assert [layer.macs for layer in bare.layers] == [layer.macs for layer in whole.layers]
    assert not any(layer.is_driver for layer in bare.layers)


def test_a_layer_that_is_used_twice_is_refused():
    with pytest.raises(UnsupportedLayer, match="fc is used twice"):
        trace(Awkward(twice=True), "awkward", (3, 4, 4), 10)


def test_a_wrong_input_shape_is_refused():
    with pytest.raises(UnsupportedLayer, match="does not take images"):
        graph = make_network("digits-cnn", classes=10, input_shape=(1, 8, 8))
        trace(graph, "digits-cnn", (3, 8, 8), 10)


def test_tracing_changes_nothing():
    network = make_network("digits-cnn", classes=10, input_shape=(1, 8, 8)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    first, _ = trace_with_plan(network, "d", (1, 8, 8), 10)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert trace(network, "d", (1, 8, 8), 10) == first


def test_a_graph_survives_json():
    graph = graph_of("digits-cnn", (1, 8, 8))
    assert Graph.from_dict(graph.to_dict()) == graph
