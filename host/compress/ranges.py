"""Quantization ranges by least squared error, for few bits; never sees a layer."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-8  # keeps scales away from zero; both sides of the wire use it
SEARCHED_BITS = 4  # up to here clipping pays; above, the full range is as good
_CLIP_RATIOS = torch.linspace(0.2, 1.0, 17).tolist()
_SHRINK_RATIOS = torch.linspace(0.04, 1.0, 25)
_SAMPLES = 8192


def weight_scales(weight: Tensor, bits: int, clip_ratio: Tensor) -> Tensor:
    """Return the step between codes of every output channel: (out,) float32.

    One bit: the mean magnitude. More: the clipped maximum spread over 2^(bits-1) - 1 codes.
    """
    magnitude = weight.detach().abs().flatten(1)
    if bits == 1:
        return magnitude.mean(1).clamp_min(TINY)
    limit = 2.0 ** (bits - 1) - 1
    return clip_ratio * magnitude.amax(1).clamp_min(TINY) / limit


def weight_codes(weight: Tensor, bits: int, scale: Tensor) -> Tensor:
    """Return the integer code of every weight, as float32."""
    if bits == 1:
        return torch.where(weight >= 0, 1.0, -1.0)
    limit = 2.0 ** (bits - 1) - 1
    per_channel = scale.view(-1, *[1] * (weight.ndim - 1))
    return torch.round(weight / per_channel).clamp_(-limit, limit)


def best_clip_ratio(weight: Tensor, bits: int) -> Tensor:
    """Return, per output channel, the share of the maximum that gives the least squared error."""
    best_ratio = torch.ones(len(weight))
    if not 1 < bits <= SEARCHED_BITS:
        return best_ratio
    weight = weight.detach().flatten(1)
    best_error = torch.full_like(best_ratio, torch.inf)
    for ratio in _CLIP_RATIOS:
        scale = weight_scales(weight, bits, torch.full_like(best_ratio, ratio))
        error = (weight_codes(weight, bits, scale) * scale[:, None] - weight).square_().sum(1)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_ratio[better] = ratio
    return best_ratio


def thinned(values: Tensor) -> Tensor:
    """Return about 8192 of the values, evenly spread by an odd stride, and the two extremes."""
    values = values.detach()
    stride = (values.numel() // _SAMPLES) | 1
    places = torch.arange(0, values.numel(), stride, device=values.device)
    # Taken one by one, since flattening copies images whose pixels lie together.
    return torch.cat([values.take(places), torch.stack(_as_they_lie(values).aminmax())])


def _as_they_lie(values: Tensor) -> Tensor:
    """Return images whose pixels lie together channels last; all else as it is."""
    together = values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last)
    return values.permute(0, 2, 3, 1) if together else values


def best_range(samples: Tensor, low: float, high: float, bits: int) -> tuple[float, float]:
    """Return the range inside [low, high] whose codes lose least of the samples."""
    low, high = min(low, 0.0), max(high, 0.0)
    if bits > SEARCHED_BITS or high - low < TINY:
        return low, high
    levels = 2**bits - 1
    step = (_SHRINK_RATIOS * ((high - low) / levels))[:, None]
    zero = torch.round(_SHRINK_RATIOS[:, None] * -low / step)
    codes = torch.round(samples[None] / step).clamp_(min=-zero, max=levels - zero)
    error = (codes.mul_(step) - samples[None]).square_().sum(1)
    ratio = float(_SHRINK_RATIOS[int(error.argmin())])
    return low * ratio, high * ratio
