"""Blocks of a network: the layers that one low-level agent decides together; any architecture.

Networks repeat modules, and number them: residual blocks (`layer2.0`), inverted residuals
(`blocks.3.1`), transformer blocks (`blocks.5`). Layers below one numbered module make a block.
What repeats nothing, such as VGG's convolutions, is cut into runs of four (HiReLC, section 2.1).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from host.types import Graph, Layer

# HiReLC's CNN blocks.
RUN = 4


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive layers of a network, by name."""

    name: str
    layers: tuple[str, ...]


def blocks(graph: Graph) -> tuple[Block, ...]:
    """Return the blocks in order of execution; every layer is in exactly one."""
    found: list[Block] = []
    for module, group in itertools.groupby(graph.layers, _module):
        layers = [layer.name for layer in group]
        runs = [layers] if module else _runs(layers)
        found += [Block(module or run[0], tuple(run)) for run in runs]
    return tuple(found)


def _module(layer: Layer) -> str:
    """Return the innermost numbered module that holds a layer, '' for none."""
    parts = layer.name.split(".")[:-1]
    numbered = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbered[-1] + 1]) if numbered else ""


def _runs(layers: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(layers), RUN):
        yield list(layers[start : start + RUN])
