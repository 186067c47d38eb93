"""NAS-Bench-201 networks as torch modules, as its authors wrote them."""

from __future__ import annotations

import torch
from torch import nn

from hil_lab.bench.board_data import CELLS, CLASSES, STAGE_CHANNELS


class Zero(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul(0.0)


def relu_conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(outputs))


def edge(operation: str, channels: int) -> nn.Module:
    if operation == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    if operation.startswith("nor_conv"):
        return relu_conv_norm(channels, channels, int(operation[-1]))
    return nn.Identity() if operation == "skip_connect" else Zero()


class Cell(nn.Module):
    def __init__(self, architecture: str, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList()
        self.sources: list[list[int]] = []
        for text in architecture.split("+"):
            pairs = [e.rpartition("~") for e in text.strip("|").split("|")]
            self.sources.append([int(source) for _, _, source in pairs])
            self.edges.append(nn.ModuleList(edge(name, channels) for name, _, _ in pairs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes = [x]
        for edges, sources in zip(self.edges, self.sources, strict=True):
            terms = [e(nodes[s]) for e, s in zip(edges, sources, strict=True)]
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            nodes.append(total)
        return nodes[-1]


class Reduction(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.a = relu_conv_norm(inputs, outputs, 3, 2)
        self.b = relu_conv_norm(outputs, outputs, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.b(self.a(x))
        return self.shortcut(x) + inner


def network(architecture: str) -> nn.Module:
    first, last = STAGE_CHANNELS[0], STAGE_CHANNELS[-1]
    parts: list[nn.Module] = [nn.Conv2d(3, first, 3, padding=1, bias=False), nn.BatchNorm2d(first)]
    for stage, channels in enumerate(STAGE_CHANNELS):
        if stage:
            parts.append(Reduction(STAGE_CHANNELS[stage - 1], channels))
        parts += [Cell(architecture, channels) for _ in range(CELLS)]
    parts += [nn.BatchNorm2d(last), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*parts, nn.Linear(last, CLASSES)).eval()
