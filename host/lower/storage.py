"""How the weights of a plan travel: their encodings and bytes, from shapes alone; never a value.

docs/artifact.md describes the encodings, and device_agent.weights reads them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from host.lower.plan import Weight
from host.policy import INT8_BITS
from host.sparsity import Kept

RAW, SPARSE, BLOCKS = "raw", "sparse", "blocks"
# How weights are encoded that change when they are loaded; all else is raw.
ENCODINGS = {
    "int8_weight": "int8_runs",
    "bit_weight": "bit_planes",
    "winograd_weight": "winograd",
}
# What a sparse weight expands to, [n, ...] as it is without zeros, and what becomes of that.
DENSE = {
    "conv_weight": "float_tiles",
    "grouped_weight": "float_tiles",
    "depthwise_weight": "int8_lines",
    **ENCODINGS,
}


def row(weight: Weight) -> dict[str, Any]:
    """Return the manifest row of a weight that is not filled: no digest, all else as packed."""
    encoding = _encoding(weight)
    return {
        "name": weight.name,
        "layer": weight.layer,
        "digest": None,
        "bytes": packed_bytes(weight),
        "dtype": weight.dtype,
        "shape": list(weight.shape),
        "encoding": encoding,
        **(weight.params if encoding != RAW else {}),
        **_kept_fields(weight),
    }


def packed_bytes(weight: Weight) -> int:
    """Return the bytes that a weight takes when packed."""
    if weight.kept:
        return weight.kept.map_bytes + _values_bytes(weight, weight.kept.values)
    encoding = _encoding(weight)
    if encoding == RAW:
        return math.prod(weight.shape) * np.dtype(weight.dtype).itemsize
    if encoding == "winograd":
        return _values_bytes(weight, 9 * weight.params["n"] * weight.params["channels"])
    return _values_bytes(
        weight, math.prod(int(weight.params[name]) for name in ("n", "taps", "channels"))
    )


def values_dtype(weight: Weight) -> str:
    """Return the element type of what is stored, bit planes apart."""
    return str(weight.params.get("values", weight.dtype))


def thinned(weight: Weight, kept: Kept | None) -> Weight:
    """Return a weight of which only so much is kept, sparse where that is fewer bytes."""
    sparse = replace(weight, kept=kept)
    return min(weight, sparse, key=packed_bytes)


def _encoding(weight: Weight) -> str:
    if weight.kept:
        return SPARSE if weight.role in DENSE else BLOCKS
    return ENCODINGS.get(weight.role, RAW)


def _values_bytes(weight: Weight, count: int) -> int:
    """Return the bytes of so many weights; those of few bits are packed in planes."""
    bits = int(weight.params.get("bits", INT8_BITS))
    if bits != INT8_BITS:
        return bits * math.ceil(count / 8)
    return count * np.dtype(values_dtype(weight)).itemsize


def _kept_fields(weight: Weight) -> dict[str, Any]:
    if not weight.kept:
        return {}
    k = weight.kept
    fields = {"n": k.outputs, "unknowns": k.unknowns, "height": k.height, "kept": k.count}
    return fields | ({"dense": DENSE[weight.role]} if weight.role in DENSE else {})
