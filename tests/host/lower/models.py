"""Small networks that hold between them every operation that the importer knows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from host.models import make_network

Made = tuple[nn.Module, tuple[int, int, int]]


def lively(network: nn.Module) -> nn.Module:
    """Give batch norms statistics that are not the identity."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def _timm(name: str, size: int) -> Callable[[], Made]:
    def make() -> Made:
        shape = (3, size, size)
        return lively(make_network(f"timm:{name}", classes=10, input_shape=shape)), shape

    return make


class Oddities(nn.Module):
    """What no listed network has: concatenation, chunks, standalone norms, strided slices."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.second = nn.Conv2d(12, 8, 1)
        self.head = nn.Linear(20 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        both = torch.cat([self.norm(torch.relu(x)), torch.sigmoid(self.second(x)) * 2 - 1], dim=1)
        halves = torch.chunk(both[:, :, ::2, ::2], 2, dim=2)
        mixed = halves[0] - halves[1] / 4
        return self.head(mixed.mean((2, 3), keepdim=True).expand(-1, -1, 2, 2).flatten(1))


def _oddities() -> Made:
    return lively(Oddities()), (3, 8, 8)


SMALL_MODELS: dict[str, Callable[[], Made]] = {
    "resnet8": lambda: (
        lively(make_network("cifar-resnet8", classes=10, input_shape=(3, 32, 32))),
        (3, 32, 32),
    ),
    "mobilenetv2_050": _timm("mobilenetv2_050", 32),
    "convnext_atto": _timm("convnext_atto", 32),
    "oddities": _oddities,
}


class OddShapes(nn.Module):
    """Every family of layer at sizes that are multiples of nothing."""

    def __init__(self, classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(input_shape[0], 13, (5, 3), (2, 1), (2, 0)),
            nn.ReLU(),
            nn.Conv2d(13, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU6(),
            nn.Conv2d(24, 24, 3, 2, 1, groups=24),
            nn.Hardswish(),
            nn.Conv2d(24, 24, 5, 1, 2, groups=24),
            nn.Conv2d(24, 10, 2),
            nn.Conv2d(10, 15, 3, padding=1, groups=5),
            nn.GELU(),
            nn.Conv2d(15, 33, 1, 3),
            nn.AvgPool2d(2, 1),
            nn.Flatten(),
        )
        with torch.no_grad():
            features = self.layers.eval()(torch.zeros(1, *input_shape)).shape[1]
        self.head = nn.Sequential(nn.Linear(features, 21), nn.SiLU(), nn.Linear(21, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x))
