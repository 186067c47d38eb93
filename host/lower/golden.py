"""The golden output of an artifact: what the reference computes, in the integers of the kernels."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import nn

from host.lower.weights import QuantizedLayer
from host.policy import Policy

TIE_WINDOW = 1e-3  # how near to a rounding boundary a scaled float is a tie


def golden_arrays(network: nn.Module, policy: Policy, sample: np.ndarray) -> dict[str, np.ndarray]:
    """Return input, output, and per quantized layer its codes, ties and accumulators.

    docs/artifact.md says what they are; `sample` is [1, C, H, W].
    """
    arrays: dict[str, np.ndarray] = {"input": sample.astype(np.float32)}
    handles = []
    for form in policy.layers:
        if form.mode != "fp32":
            layer = network.get_submodule(form.layer)
            handles.append(layer.register_forward_pre_hook(_recorder(form.layer, arrays)))
    network.eval()
    try:
        with torch.no_grad():
            arrays["output"] = network(torch.from_numpy(arrays["input"])).numpy()
    finally:
        for handle in handles:
            handle.remove()
    return arrays


def _recorder(name: str, arrays: dict[str, np.ndarray]) -> Any:
    def record(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0]
        quantizer = cast(QuantizedLayer, layer)
        codes = cast(Any, layer).input_codes(x)
        zero = float(quantizer.act_zero)
        arrays[f"quantize:{name}"] = _framed(layer, codes, zero).astype(np.uint8)
        scaled = x.double() * float(quantizer.act_inverse)
        near = ((scaled - scaled.floor() - 0.5).abs() < TIE_WINDOW).float()
        arrays[f"ties:{name}"] = _framed(layer, near, 0.0).astype(bool)
        acc = cast(Any, layer).accumulate(x)
        arrays[f"accumulate:{name}"] = _rows(acc).astype(np.int32)

    return record


def _framed(layer: nn.Module, values: torch.Tensor, border: float) -> np.ndarray:
    """Return values of a layer's input as [H + 2P, W + 2P, C], tokens as [1, T, C]."""
    if isinstance(layer, nn.Conv2d):
        rows, columns = (int(p) for p in layer.padding)
        frame = (columns, columns, rows, rows)
        values = nn.functional.pad(values.float(), frame, value=border)
        values = values[0].permute(1, 2, 0)
    else:
        values = values.reshape(1, -1, values.shape[-1])
    return values.detach().numpy()


def _rows(acc: torch.Tensor) -> np.ndarray:
    if acc.ndim == 4:
        acc = acc.permute(0, 2, 3, 1)
    return cast(np.ndarray, acc.detach().numpy().reshape(-1, acc.shape[-1]))
