"""Exact sums of 8-bit codes by oneDNN's integer kernels, several times as fast as those of floats.

They add in int32 and round to float32 once. Zero codes are taken off after that, so that sums are
exact where those of the codes alone stay below 2^24, too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

# Whoever keeps oneDNN from newer instructions gets kernels that add pairs in int16, which saturate.
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_PLAIN: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")


@cache
def exact() -> bool:
    """Whether this processor multiplies 8-bit codes without saturating, and so may be used."""
    held_back = any(name in os.environ for name in _LIMITS)
    return bool(torch.cpu.get_capabilities().get("avx512_vnni")) and not held_back


def conv2d(
    codes: Tensor,
    zero: int,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Return the sums of (code - zero) x weight: codes uint8 (N, C, H, W), weight int8; float32."""
    scale, offset = _steps(weight)
    form = (stride, padding, dilation, groups)
    packed = torch.ops.onednn.qconv_prepack(weight, scale, 1.0, zero, *form, codes.shape)
    sums: Tensor = torch.ops.onednn.qconv2d_pointwise(
        codes, 1.0, zero, packed, scale, offset, None, *form, *_PLAIN
    )
    return sums


def linear(codes: Tensor, zero: int, weight: Tensor) -> Tensor:
    """Return the sums of (code - zero) x weight: codes uint8 (..., C), weight int8; float32."""
    scale, offset = _steps(weight)
    packed = torch.ops.onednn.qlinear_prepack(weight, codes.shape)
    sums: Tensor = torch.ops.onednn.qlinear_pointwise(
        codes, 1.0, zero, packed, scale, offset, None, *_PLAIN
    )
    return sums


def _steps(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return steps of one and zeros of zero: (out,)."""
    return torch.ones(len(weight)), torch.zeros(len(weight), dtype=torch.int32)
