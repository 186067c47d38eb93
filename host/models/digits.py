"""Two small networks for the embedded 8x8 digits, with coupled channels; never trained here."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DigitsCNN(nn.Module):
    """Five 3x3 convolutions with batch norm, one residual add, one linear layer; 3 MMAC."""

    def __init__(self, classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.stem = _conv_norm(input_shape[0], 32)
        self.wide = _conv_norm(32, 64)
        self.down = _conv_norm(64, 64, stride=2)
        self.first = _conv_norm(64, 64)
        self.second = _conv_norm(64, 64)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to logits (N, classes)."""
        x = F.relu(self.wide(F.relu(self.stem(x))))
        x = F.relu(self.down(x))
        x = F.relu(x + self.second(F.relu(self.first(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class Attention(nn.Module):
    """Softmax attention in primitive operations, one linear layer each for q, k, v and output."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (N, T, width) to tokens of the same shape."""
        q, k, v = (self._split(layer(x)) for layer in (self.q, self.k, self.v))
        scores = torch.matmul(q, k.transpose(-2, -1)) * self.head_width**-0.5
        mixed = torch.matmul(torch.softmax(scores, dim=-1), v)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:2], self.heads, self.head_width)
        return x.reshape(shape).transpose(1, 2)


class EncoderBlock(nn.Module):
    """Pre-norm attention and a two-layer perceptron with GELU."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (N, T, width) to tokens of the same shape."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return out


class DigitsViT(nn.Module):
    """A vision transformer of two blocks over overlapping patches with mean pooling."""

    def __init__(
        self, classes: int, input_shape: tuple[int, int, int], width: int = 64, blocks: int = 2
    ) -> None:
        super().__init__()
        channels, height, columns = input_shape
        tokens = ((height + 1) // 2) * ((columns + 1) // 2)
        self.patches = nn.Conv2d(channels, width, 3, 2, 1)
        self.position = nn.Parameter(torch.randn(1, tokens, width) * 0.2)
        self.blocks = nn.Sequential(*(EncoderBlock(width, 4, 2 * width) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to logits (N, classes)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        logits: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return logits


def _conv_norm(in_channels: int, channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels)
    )
