"""The networks that benchmarks run: those that the compiler is judged by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from host.models import make_network
from host.registry import Registry
from host.torchvision_shim import ensure_torchvision

Size = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class BenchNetwork:
    """A network of `host.models` with untrained weights, which cost what trained ones cost."""

    name: str
    model: str
    input_shape: Size
    classes: int = 10
    convolutional: bool = True

    def make(self) -> nn.Module:
        """Return the network with batch norms that are not the identity."""
        network = make_network(
            self.model, classes=self.classes, input_shape=self.input_shape, seed=0
        )
        generator = torch.Generator().manual_seed(0)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0.0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
        return network.eval()

    def sample(self) -> torch.Tensor:
        """Return one input [1, C, H, W]."""
        generator = torch.Generator().manual_seed(1)
        return torch.randn(1, *self.input_shape, generator=generator)


def vit_tiny_32(classes: int) -> nn.Module:
    """ViT-tiny for pictures of 32 pixels: patches of 4, 64 of them and the class token."""
    ensure_torchvision()
    import timm

    network: nn.Module = timm.create_model(
        "vit_tiny_patch16_224", num_classes=classes, img_size=32, patch_size=4
    )
    return network


CIFAR: Size = (3, 32, 32)
IMAGENET: Size = (3, 224, 224)
NETWORKS: Registry[BenchNetwork] = Registry("benchmark network")
for _network in (
    BenchNetwork("resnet18-cifar", "resnet18-cifar", CIFAR),
    BenchNetwork("resnet20", "cifar-resnet20", CIFAR),
    BenchNetwork("resnet56", "cifar-resnet56", CIFAR),
    BenchNetwork("vgg16-cifar", "vgg16-cifar", CIFAR),
    BenchNetwork("mobilenetv2-224", "timm:mobilenetv2_100", IMAGENET, 1000),
    BenchNetwork("vit-tiny-32", f"{__name__}:vit_tiny_32", CIFAR, convolutional=False),
):
    NETWORKS.register(_network.name)(_network)


def chosen(names: Iterable[str]) -> list[BenchNetwork]:
    """Return networks by name, all of them for no names; raises CallerError for an unknown one."""
    return [NETWORKS[name] for name in (list(names) or NETWORKS)]
