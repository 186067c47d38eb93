"""The golden output of an artifact: what the reference computes, in the integers of the kernels."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import nn

from host.lower.kernels.quantize import INT8_OFFSET
from host.lower.weights import QuantizedLayer, correction
from host.policy import INT8_BITS, LayerPolicy, Policy


def golden_arrays(network: nn.Module, policy: Policy, sample: np.ndarray) -> dict[str, np.ndarray]:
    """Return input, output, and per quantized layer its codes and accumulators.

    Shapes are those of the kernels' destinations (docs/artifact.md); `sample` is [1, C, H, W].
    """
    arrays: dict[str, np.ndarray] = {"input": sample.astype(np.float32)}
    handles = []
    for form in policy.layers:
        if form.mode != "fp32":
            layer = network.get_submodule(form.layer)
            handles.append(layer.register_forward_pre_hook(_recorder(form, arrays)))
    network.eval()
    try:
        with torch.no_grad():
            arrays["output"] = network(torch.from_numpy(arrays["input"])).numpy()
    finally:
        for handle in handles:
            handle.remove()
    return arrays


def _recorder(form: LayerPolicy, arrays: dict[str, np.ndarray]) -> Any:
    def record(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0]
        arrays[f"quantize:{form.layer}"] = _codes(layer, x, form)
        acc = cast(Any, layer).accumulate(x)
        fixed = correction(cast(QuantizedLayer, layer), form.act_bits)
        arrays[f"accumulate:{form.layer}"] = _rows(acc).astype(np.int64) - fixed
        arrays[f"accumulate:{form.layer}"] = arrays[f"accumulate:{form.layer}"].astype(np.int32)

    return record


def _codes(layer: nn.Module, x: torch.Tensor, form: LayerPolicy) -> np.ndarray:
    """Return codes as the quantize kernel stores them: NHWC, border of zero points, signed int8."""
    codes = cast(Any, layer).input_codes(x)
    if isinstance(layer, nn.Conv2d):
        rows, columns = (int(p) for p in layer.padding)
        zero = float(cast(QuantizedLayer, layer).act_zero)
        codes = nn.functional.pad(codes.float(), (columns, columns, rows, rows), value=zero)
        codes = codes.permute(0, 2, 3, 1)
    else:
        codes = codes.reshape(1, 1, -1, codes.shape[-1])
    values = codes.detach().numpy().astype(np.int64)
    if form.act_bits == INT8_BITS:
        return cast(np.ndarray, (values - INT8_OFFSET).astype(np.int8))
    return cast(np.ndarray, values.astype(np.uint8))


def _rows(acc: torch.Tensor) -> np.ndarray:
    if acc.ndim == 4:
        acc = acc.permute(0, 2, 3, 1)
    return cast(np.ndarray, acc.detach().numpy().reshape(-1, acc.shape[-1]))
