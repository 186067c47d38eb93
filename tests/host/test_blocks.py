"""Blocks follow the modules that a network repeats, whatever its architecture."""

from __future__ import annotations

import pytest

from host.blocks import blocks
from host.graph import trace_unpruned
from host.models import make_network

CIFAR = (3, 32, 32)
EXPECTED = {
    "cifar-resnet20": {"layer1.0": ("layer1.0.conv1", "layer1.0.conv2")},
    "vgg16-cifar": {"features.0": ("features.0", "features.3", "features.7", "features.10")},
    "timm:mobilenetv2_100": {
        "blocks.1.0": ("blocks.1.0.conv_pw", "blocks.1.0.conv_dw", "blocks.1.0.conv_pwl")
    },
    "timm:vit_tiny_patch16_224": {
        "blocks.0": (
            "blocks.0.attn.qkv",
            "blocks.0.attn.proj",
            "blocks.0.mlp.fc1",
            "blocks.0.mlp.fc2",
        )
    },
}


@pytest.mark.parametrize("model", EXPECTED)
def test_blocks_are_the_modules_that_a_network_repeats(model: str) -> None:
    shape = (3, 224, 224) if "vit" in model else CIFAR
    network = make_network(model, classes=10, input_shape=shape, seed=0)
    graph = trace_unpruned(network, model, shape, 10)
    found = blocks(graph)
    assert [name for block in found for name in block.layers] == [x.name for x in graph.layers]
    by_name = {block.name: block.layers for block in found}
    assert len(by_name) == len(found)
    for name, layers in EXPECTED[model].items():
        assert by_name[name] == layers
