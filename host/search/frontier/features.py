"""What agents see of a layer: its shape, what compressing it costs and harms, and board events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from host.encoding import Batch, Encoding, Floats
from host.layer_events import Events
from host.policy import MODES
from host.surrogate.cost import ProgramCost, by_layer

NEON, ALL = "ase_spec", "instructions"


def layer_features(encoding: Encoding, program_cost: ProgramCost, events: Events) -> Floats:
    """Return what agents see: [layers, features], each of mean zero and variance one.

    Shapes; the predicted cost of the whole layer and what integers and half the channels leave of
    it; the harm of these; hardware events per thousand multiply-accumulates, and the share of NEON
    among instructions where the board counts both ("very promising and unique", Galen's outlook).
    """
    columns = [*_shapes(encoding), *_probes(encoding, program_cost), *_events(encoding, events)]
    table = np.stack(columns, 1)
    spread = table.std(0)
    return np.asarray((table - table.mean(0)) / np.where(spread > 0, spread, 1.0))


def _shapes(encoding: Encoding) -> list[Floats]:
    layers = encoding.layers
    rows = [
        (
            index / len(layers),
            np.log2(x.in_channels),
            np.log2(x.out_channels),
            np.log2(x.macs),
            x.kernel[0] * x.kernel[1],
            x.stride[0],
            x.kind == "linear",
            x.depthwise,
            x in encoding.drivers,
        )
        for index, x in enumerate(layers)
    ]
    return list(np.asarray(rows, dtype=np.float64).T)


def _probes(encoding: Encoding, program_cost: ProgramCost) -> list[Floats]:
    """Return costs and harms of whole layers, of int8, of half the bits and half the channels."""
    batch = probes(encoding)
    policies = [encoding.policy(batch, i) for i in range(len(batch))]
    cost = by_layer(encoding.layers, map(program_cost, policies))
    pruning, formats = encoding.harm(batch)
    whole = np.maximum(cost[0], 1e-12)
    half = np.zeros(len(encoding.layers))
    places = {x.name: i for i, x in enumerate(encoding.layers)}
    for driver, layer in enumerate(encoding.drivers):
        half[places[layer.name]] = pruning[-1, driver]
    ratios = [row / whole for row in cost[1:]]
    return [whole / whole.sum(), *ratios, *np.log1p(formats[1:-1]), np.log1p(half)]


def probes(encoding: Encoding) -> Batch:
    """Return the whole network, whole layers in each other kind of format, and half the width."""
    full = encoding.counts - 1
    forms = [_middle(encoding, mode) for mode in MODES]
    plain = forms[0]
    return Batch(
        np.stack([*(full for _ in forms), encoding.counts // 2]),
        np.stack([*forms, plain]),
    )


def _middle(encoding: Encoding, mode: str) -> Floats:
    """Return the form of every layer that is in the middle of a kind; fp32 where there is none."""
    found = []
    for options in encoding.choices:
        own = [int(i) for i in options if encoding.forms[i].mode == mode]
        found.append(own[len(own) // 2] if own else int(options[0]))
    return np.asarray(found)


def _events(encoding: Encoding, events: Events) -> list[Floats]:
    """Return a column for every event that was counted for all layers; no zero for "unknown"."""
    rows = [events.get(x.name, {}) for x in encoding.layers]
    names = sorted(set.intersection(*(set(row) for row in rows))) if rows else []
    columns = [_per_macs(encoding, rows, name) for name in names]
    if NEON in names and ALL in names:
        columns.append(np.asarray([row[NEON] / max(row[ALL], 1.0) for row in rows]))
    return columns


def _per_macs(encoding: Encoding, rows: Sequence[Mapping[str, float]], name: str) -> Floats:
    counts = [1e3 * row[name] / x.macs for row, x in zip(rows, encoding.layers, strict=True)]
    return np.asarray(np.log1p(counts), dtype=np.float64)
