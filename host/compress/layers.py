"""Layers that compute with integer codes; never choose their bits.

Weights are symmetric per output channel, activations asymmetric per tensor with a calibrated
range. Training and evaluation run the same arithmetic, which is the compiled program's: integer
codes, an exact integer sum, one multiplication per output. The master weights stay Parameters and
get their gradients straight through the rounding.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from host.compress import integer
from host.compress.ranges import TINY, best_range, thinned, weight_codes, weight_scales

EXACT_FLOAT32 = 2**24  # integers up to here are exact in float32, and so are sums that stay below
_NIBBLE = 16
# A megabyte of floats.
_CACHED_VALUES = 1 << 18


class _StraightThrough(torch.autograd.Function):
    """The value of `code` with the gradient of `value`."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, code: Tensor) -> Tensor:
        """Return the code."""
        return code.view_as(code)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Hand the gradient to the value unchanged."""
        return gradients[0], None


class QuantLayer(nn.Module):
    """What quantized convolutions and linear layers share.

    Buffers: `clip_ratio` (out,), `act_low` <= 0 <= `act_high` (scalars); all else derives from
    them, from the bits and from the master weights.
    """

    weight: Tensor
    weight_bits: int
    act_bits: int
    clip_ratio: Tensor
    act_low: Tensor
    act_high: Tensor
    # What a value of each output channel is shaped as, to meet outputs.
    _per_channel: ClassVar[tuple[int, ...]]
    _seen: list[Tensor] | None

    def _setup(self, source: nn.Conv2d | nn.Linear, weight_bits: int, act_bits: int) -> Self:
        self.weight = source.weight
        self.register_parameter("bias", cast("nn.Parameter | None", source.bias))
        self.weight_bits, self.act_bits = weight_bits, act_bits
        self.register_buffer("clip_ratio", torch.ones(len(source.weight)))
        self.register_buffer("act_low", torch.tensor(0.0))
        self.register_buffer("act_high", torch.tensor(1.0))
        self._seen = None
        return self.train(source.training)

    @property
    def act_levels(self) -> int:
        """The largest input code, n = 2^bits - 1."""
        return (1 << self.act_bits) - 1

    @property
    def act_scale(self) -> float:
        """The step between input codes, a float32."""
        return float(((self.act_high - self.act_low) / self.act_levels).clamp_min(TINY))

    @property
    def act_inverse(self) -> float:
        """One over the step, a float32."""
        return float(1.0 / torch.tensor(self.act_scale))

    @property
    def act_zero(self) -> int:
        """The input code that means zero."""
        return round(float(-self.act_low / torch.tensor(self.act_scale)))

    def weight_scale(self) -> Tensor:
        """Return the step between weight codes of each output channel: (out,) float32."""
        return weight_scales(self.weight, self.weight_bits, self.clip_ratio)

    def weight_codes(self) -> Tensor:
        """Return the integer weights, shaped as the weights: int8."""
        with torch.no_grad():
            codes = weight_codes(self.weight, self.weight_bits, self.weight_scale())
        return codes.to(torch.int8)

    def input_codes(self, x: Tensor) -> Tensor:
        """Return the codes 0..n of an input: uint8."""
        inverse, zero = self.act_inverse, self.act_zero
        codes = torch.empty_like(x, dtype=torch.uint8)
        with torch.no_grad():
            for part, into in zip(_parts(x), _parts(codes), strict=True):
                into.copy_(self._centre(part * inverse).add_(zero))
        return codes

    def quantized_input(self, x: Tensor) -> Tensor:
        """Return an input as its codes represent it: float32."""
        return self._centre(x * self.act_inverse) * self.act_scale

    def accumulate(self, x: Tensor) -> Tensor:
        """Return the exact sums of (code - zero) x weight code of an input: int32."""
        centred = self.input_codes(x).double() - self.act_zero
        return self._linear(centred, self.weight_codes().double()).to(torch.int32)

    def fit_range(self, samples: Tensor) -> None:
        """Set the activation range that suits these input values, their extremes among them."""
        low, high = best_range(samples, float(samples.min()), float(samples.max()), self.act_bits)
        self.act_low.fill_(low)
        self.act_high.fill_(high)

    def observe(self, x: Tensor) -> None:
        """Fit the range to this input and to those seen since calibration began."""
        assert self._seen is not None
        self._seen.append(thinned(x))
        self.fit_range(torch.cat(self._seen))

    def forward(self, x: Tensor) -> Tensor:
        """Compute as the integer program does: exact sums, one multiplication per output."""
        if self._seen is not None:
            self.observe(x)
        with torch.no_grad():
            scale = self.weight_scale()
            codes = weight_codes(self.weight, self.weight_bits, scale)
        if torch.is_grad_enabled():
            return self._learning(x, codes, scale)
        return self._affine(self._sums(x, codes), scale * self.act_scale)

    def _learning(self, x: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
        """Answer so that gradients pass the rounding."""
        scaled = x * self.act_inverse
        per_channel = scale.view(-1, *[1] * (codes.ndim - 1))
        weight = _straight_through(self.weight / per_channel, codes)
        low, high = -self.act_zero - 0.5, self.act_levels - self.act_zero + 0.5
        centred = _straight_through(scaled.clamp(low, high), self._centre(scaled.detach().clone()))
        sums = self._linear(centred, weight)
        if not self.training:  # the exact value; gradients are those of floats
            sums = sums + (self._sums(x, codes) - sums).detach()
        return self._affine(sums, scale * self.act_scale)

    def _centre(self, scaled: Tensor) -> Tensor:
        """Round values, in steps from zero, to codes less that of zero; in place."""
        zero = self.act_zero
        return scaled.round_().clamp_(-zero, self.act_levels - zero)

    def _sums(self, x: Tensor, weight: Tensor) -> Tensor:
        """Sum exactly where float32 alone might round: by halves of codes, or in float64."""
        codes, zero = self.input_codes(x), self.act_zero
        largest = float(weight.abs().flatten(1).sum(1).max())
        if self.act_levels * largest < EXACT_FLOAT32:
            return self._product(codes, zero, weight)
        if _NIBBLE * largest < EXACT_FLOAT32:
            upper = self._product(codes // _NIBBLE, zero // _NIBBLE, weight)
            lower = self._product(codes % _NIBBLE, zero % _NIBBLE, weight)
            return upper * _NIBBLE + lower  # rounds once, as int to float
        return self._linear(codes.double() - zero, weight.double()).float()

    def _product(self, codes: Tensor, zero: int, weight: Tensor) -> Tensor:
        """Sum (code - zero) x weight code where float32 is exact: uint8 and whole floats."""
        if codes.is_cpu and integer.exact():
            return self._integer(codes, zero, weight.to(torch.int8))
        return self._linear(codes.float() - zero, weight)

    @abstractmethod
    def _linear(self, x: Tensor, weight: Tensor) -> Tensor:
        """Apply the layer without its bias."""

    @abstractmethod
    def _integer(self, codes: Tensor, zero: int, weight: Tensor) -> Tensor:
        """Sum (code - zero) x weight code: uint8 and int8 to float32."""

    def _affine(self, sums: Tensor, scale: Tensor) -> Tensor:
        """Multiply each output channel by its scale and add the bias, in place."""
        bias = cast("Tensor | None", self.bias)
        for part in [sums] if sums.requires_grad else _parts(sums):
            part *= scale.view(self._per_channel)
            if bias is not None:
                part += bias.view(self._per_channel)
        return sums


class QuantConv2d(QuantLayer, nn.Conv2d):
    """A convolution over integer codes."""

    _per_channel = (-1, 1, 1)

    @classmethod
    def replacing(cls, conv: nn.Conv2d, weight_bits: int, act_bits: int) -> QuantConv2d:
        """Return a quantized layer that takes over a convolution's parameters."""
        made = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            conv.bias is not None,
            conv.padding_mode,
            device="meta",  # initialises nothing and draws nothing
        )
        return made._setup(conv, weight_bits, act_bits)

    def _linear(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def _integer(self, codes: Tensor, zero: int, weight: Tensor) -> Tensor:
        if isinstance(self.padding, str):
            return self._linear(codes.float() - zero, weight.float())
        return integer.conv2d(
            codes, zero, weight, self.stride, self.padding, self.dilation, self.groups
        )


class QuantLinear(QuantLayer, nn.Linear):
    """A linear layer over integer codes."""

    _per_channel = (-1,)

    @classmethod
    def replacing(cls, linear: nn.Linear, weight_bits: int, act_bits: int) -> QuantLinear:
        """Return a quantized layer that takes over a linear layer's parameters."""
        made = cls(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        return made._setup(linear, weight_bits, act_bits)

    def _linear(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def _integer(self, codes: Tensor, zero: int, weight: Tensor) -> Tensor:
        return integer.linear(codes, zero, weight)


def _parts(x: Tensor) -> tuple[Tensor, ...]:
    """Split a batch so that what is made of a part stays in the processor's cache."""
    return torch.split(x, max(_CACHED_VALUES // max(x.shape[1:].numel(), 1), 1))


def _straight_through(value: Tensor, code: Tensor) -> Tensor:
    out: Tensor = _StraightThrough.apply(value, code)  # type: ignore[no-untyped-call]
    return out
