"""A plan's weights from a compressed network: folded, laid out, packed at their real width."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from host.errors import PolicyError
from host.lower.plan import Weight
from host.lower.storage import row, values_dtype
from host.sparsity import Kept


class QuantizedLayer(Protocol):
    """What the lowering reads of a quantized layer (host.compress.quantize)."""

    bias: torch.Tensor | None
    act_scale: float
    act_inverse: float
    act_zero: int

    def weight_codes(self) -> torch.Tensor: ...
    def weight_scale(self) -> torch.Tensor: ...


@dataclass(frozen=True)
class PackedWeight:
    """One weight as it travels: its manifest row and its bytes."""

    row: dict[str, Any]
    data: bytes


def pack(weight: Weight, network: nn.Module) -> PackedWeight:
    """Return a weight of a plan, filled from the network's present values."""
    data = (_sparse if weight.kept else _ROLES[weight.role])(weight, network)
    digest = hashlib.sha256(data).hexdigest()
    return PackedWeight(row(weight) | {"digest": digest, "bytes": len(data)}, data)


def _raw(values: np.ndarray, weight: Weight) -> bytes:
    return np.ascontiguousarray(values.reshape(weight.shape), weight.dtype).tobytes()


def _array(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def _tensor(network: nn.Module, path: str) -> torch.Tensor:
    owner, _, name = path.rpartition(".")
    return cast(torch.Tensor, getattr(network.get_submodule(owner), name))


def norm_terms(network: nn.Module, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a batch norm as y = x * scale + shift, per channel."""
    norm = cast(nn.BatchNorm2d, network.get_submodule(path))
    mean, var = (_array(cast(torch.Tensor, t)) for t in (norm.running_mean, norm.running_var))
    gain = _array(norm.weight) if norm.weight is not None else np.ones_like(mean)
    shift = _array(norm.bias) if norm.bias is not None else np.zeros_like(mean)
    scale = gain / np.sqrt(var.astype(np.float64) + norm.eps)
    return scale, shift - mean * scale


def _folded(weight: Weight, network: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Return weights [O, I, KH, KW] and bias [O] in float64, the batch norm folded in."""
    layer = cast(nn.Conv2d, network.get_submodule(weight.path))
    values = _array(layer.weight).astype(np.float64)
    values = values.reshape(*values.shape, *([1] * (4 - values.ndim)))
    bias = (
        _array(layer.bias).astype(np.float64) if layer.bias is not None else np.zeros(len(values))
    )
    if norm := weight.params.get("norm"):
        scale, shift = norm_terms(network, norm)
        values, bias = values * scale[:, None, None, None], bias * scale + shift
    return values, bias


def _conv_weight(weight: Weight, network: nn.Module) -> bytes:
    values, _ = _folded(weight, network)
    tile = weight.params["tile"]
    blocks = math.ceil(len(values) / tile)
    full = np.zeros((blocks * tile, *values.shape[1:]))
    full[: len(values)] = values
    tiled = full.reshape(blocks, tile, *values.shape[1:]).transpose(0, 3, 4, 2, 1)
    return _raw(tiled, weight)


def _winograd_weight(weight: Weight, network: nn.Module) -> bytes:
    values, _ = _folded(weight, network)
    return values.astype(np.float32).tobytes()


def _grouped_weight(weight: Weight, network: nn.Module) -> bytes:
    values, _ = _folded(weight, network)
    return _raw(values.transpose(2, 3, 1, 0), weight)


def _conv_bias(weight: Weight, network: nn.Module) -> bytes:
    return _raw(_folded(weight, network)[1], weight)


def _quantized(weight: Weight, network: nn.Module) -> QuantizedLayer:
    return cast(QuantizedLayer, network.get_submodule(weight.path))


def _codes(weight: Weight, network: nn.Module) -> np.ndarray:
    """Return integer weights as [n, taps, channels]."""
    codes = _array(_quantized(weight, network).weight_codes()).astype(np.int64)
    codes = codes.reshape(*codes.shape[:2], -1)
    return cast(np.ndarray, codes.transpose(0, 2, 1))


def _sparse(weight: Weight, network: nn.Module) -> bytes:
    """Return a map of the units that stay, a bit each, and their weights, unit by unit."""
    kept, axes = weight.kept, _WALKS[weight.role]
    assert kept is not None
    layer = network.get_submodule(weight.path)
    stays = _units(_array(_kept_weights(layer, weight.path)), axes, kept)[:, :, 0]
    if stays.sum() != kept.count:
        raise PolicyError(f"{weight.path}: {stays.sum()} units stay, its policy says {kept.count}")
    dtype = values_dtype(weight)
    if dtype == "float32":
        values = _folded(weight, network)[0]
    else:
        values = _array(_quantized(weight, network).weight_codes()).astype(np.int64)
    chosen = _units(values, axes, kept)[stays]
    if "bits" in weight.params:
        data = b"".join(_bits(chosen >> bit & 1) for bit in range(weight.params["bits"]))
    else:
        data = chosen.astype(dtype).tobytes()
    return _bits(stays) + data


def _units(values: np.ndarray, axes: tuple[int, ...], kept: Kept) -> np.ndarray:
    """Return [O, I, KH, KW] as [rows of units, unknowns, height], walked in this order of axes."""
    values = values.reshape(*values.shape, *([1] * (4 - values.ndim)))
    flat = np.zeros((kept.rows * kept.height, kept.unknowns), values.dtype)
    flat[: kept.outputs] = values.transpose(axes).reshape(kept.outputs, kept.unknowns)
    return flat.reshape(kept.rows, kept.height, kept.unknowns).transpose(0, 2, 1)


def _kept_weights(layer: nn.Module, path: str) -> torch.Tensor:
    """Return which weights of a layer stay, as host.compress.patterns left it."""
    found = getattr(layer, "kept_weights", None)
    if found is None:
        raise PolicyError(f"{path}: its policy thins it, but the network has all of its weights")
    return cast(torch.Tensor, found)


def _bits(flags: np.ndarray) -> bytes:
    return np.packbits(flags.astype(np.uint8).ravel(), bitorder="little").tobytes()


def _int8_weight(weight: Weight, network: nn.Module) -> bytes:
    return _codes(weight, network).astype(np.int8).tobytes()


def _depthwise_weight(weight: Weight, network: nn.Module) -> bytes:
    """Return codes as [C / tile, KH / g, KW, tile, g], g lines of the kernel side by side."""
    blocks, bands, columns, _ = weight.shape
    lines, tile = weight.params["lines"], weight.params["tile"]
    codes = _array(_quantized(weight, network).weight_codes())[:, 0]
    full = np.zeros((blocks * tile, bands * lines, columns))
    full[: len(codes), : codes.shape[1]] = codes
    tiles = full.reshape(blocks, tile, bands, lines, columns)
    return _raw(tiles.transpose(0, 2, 4, 1, 3), weight)


def _bit_weight(weight: Weight, network: nn.Module) -> bytes:
    codes = _codes(weight, network)
    bits = weight.params["bits"]
    if bits == 1:
        codes = (codes + 1) // 2
    return b"".join(_bits(codes >> bit & 1) for bit in range(bits))


def _correction(weight: Weight, network: nn.Module) -> bytes:
    """Return what the sums of stored codes lack: the zero point times each channel's weights."""
    layer = _quantized(weight, network)
    totals = _codes(weight, network).sum(axis=(1, 2))
    return _raw((weight.params["offset"] - int(layer.act_zero)) * totals, weight)


def _scale(weight: Weight, network: nn.Module) -> bytes:
    layer = _quantized(weight, network)
    scale = _array(layer.weight_scale()).astype(np.float64).ravel() * float(layer.act_scale)
    if norm := weight.params.get("norm"):
        scale = scale * norm_terms(network, norm)[0]
    return _raw(scale, weight)


def _bias(weight: Weight, network: nn.Module) -> bytes:
    layer = _quantized(weight, network)
    bias = _array(layer.bias) if layer.bias is not None else np.zeros(weight.shape)
    if norm := weight.params.get("norm"):
        scale, shift = norm_terms(network, norm)
        bias = bias * scale + shift
    return _raw(bias, weight)


def _quantizer(weight: Weight, network: nn.Module) -> bytes:
    layer = _quantized(weight, network)
    return _raw(np.array([float(layer.act_inverse), float(layer.act_zero)]), weight)


# In which order of the axes [O, I, KH, KW] sparse weights are walked.
_WALKS = {
    "conv_weight": (0, 2, 3, 1),
    "grouped_weight": (0, 2, 3, 1),
    "int8_weight": (0, 2, 3, 1),
    "bit_weight": (0, 2, 3, 1),
    "winograd_weight": (0, 1, 2, 3),
    "depthwise_weight": (0, 1, 2, 3),
    "block_weight": (0, 1, 3, 2),
}

_ROLES: dict[str, Callable[[Weight, nn.Module], bytes]] = {
    "param": lambda weight, network: _raw(_array(_tensor(network, weight.path)), weight),
    "norm_scale": lambda weight, network: _raw(norm_terms(network, weight.path)[0], weight),
    "norm_shift": lambda weight, network: _raw(norm_terms(network, weight.path)[1], weight),
    "conv_weight": _conv_weight,
    "conv_bias": _conv_bias,
    "winograd_weight": _winograd_weight,
    "grouped_weight": _grouped_weight,
    "int8_weight": _int8_weight,
    "depthwise_weight": _depthwise_weight,
    "bit_weight": _bit_weight,
    "correction": _correction,
    "scale": _scale,
    "bias": _bias,
    "quantizer": _quantizer,
    "reveal": lambda weight, network: _raw(np.zeros(weight.shape), weight),
}
