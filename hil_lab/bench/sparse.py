"""Layers of which blocks of four outputs stay against dense ones on the Cortex-A72: whole kernels.

Every kernel runs once under qemu, and each of its blocks of instructions is counted (whole.py).
Weights that no cache holds come from memory meanwhile: the longer of the two is a kernel's time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from device_agent.weights import synthetic
from hil_lab.bench.disassembly import OBJDUMP, require
from hil_lab.bench.mca import MCA
from hil_lab.bench.report import Options, Report, Show, Table
from hil_lab.bench.whole import kernel_cycles
from host.errors import BuildError
from host.lower.fuse import fuse
from host.lower.importer import import_module
from host.lower.kernels.int8_conv import Int8Conv
from host.lower.kernels.kernel import symbol
from host.lower.objects import ObjectCache
from host.lower.plan import Weight
from host.lower.select import select
from host.lower.select_blocks import (
    Skipping,
    block_params,
    cycles,
    faster,
    memory_cycles,
    outgrows_cache,
    skipping_float,
    skipping_int8,
)
from host.lower.storage import row
from host.lower.targets import TARGETS, Target
from host.policy import BLOCK, FULL_BITS, INT8_BITS, LayerPolicy, Mode, Policy
from host.sparsity import kept

SHARES = (50, 70, 80, 90)  # per cent of zeros
LAYER = "1"
FORMATS: tuple[tuple[Mode, int], ...] = (("fp32", FULL_BITS), ("int8", INT8_BITS))
COLUMNS = ("layer", "format", "dense kernel", "dense", *(f"{share} %" for share in SHARES))


@dataclass(frozen=True, slots=True)
class Sizes:
    """A convolution, padded to keep its size: `side` is the input's; of side 1, a linear layer."""

    name: str
    side: int
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1


LAYERS = (
    Sizes("ResNet-20, stage 1", 32, 16, 16, 3),
    Sizes("ResNet-20, stage 2", 16, 32, 32, 3),
    Sizes("ResNet-20, stage 3", 8, 64, 64, 3),
    Sizes("ResNet-20, into stage 3", 16, 32, 64, 3, 2),
    Sizes("VGG-16, 32 x 32", 32, 64, 64, 3),
    Sizes("VGG-16, 8 x 8", 8, 256, 256, 3),
    Sizes("VGG-16, 4 x 4", 4, 512, 512, 3),
    Sizes("VGG-16, 2 x 2", 2, 512, 512, 3),
    Sizes("1 x 1, 16 x 16", 16, 64, 128, 1),
    Sizes("linear, one token", 1, 512, 512, 1),
)


@dataclass(frozen=True)
class Figure:
    """A layer in a number format: cycles of the dense kernel and, by share, of the skipping one.

    `taken` are the shares at which a program has the skipping one; `forecast` is what decides.
    """

    layer: str
    format: str
    kind: str
    dense: float
    skipping: dict[int, float]
    forecast: dict[int, float]
    taken: tuple[int, ...]

    def row(self) -> list[str]:
        """Return the figure as a line of a table; what is not taken is in brackets."""
        cells = [
            f"{spent:,.0f}" if share in self.taken else f"({spent:,.0f})"
            for share, spent in self.skipping.items()
        ]
        return [self.layer, self.format, self.kind, f"{self.dense:,.0f}", *cells]


def report(options: Options) -> Report:
    """Count all layers; raises CallerError where a tool is missing."""
    require((MCA, OBJDUMP))
    target = TARGETS["cortex-a72"]()
    with tempfile.TemporaryDirectory() as folder:
        figures = list(count(LAYERS, target, ObjectCache(Path(folder))))
    return Report(
        samples={"layers": [asdict(figure) for figure in figures]},
        tables=[Table(COLUMNS, [figure.row() for figure in figures])],
        shows=list(shows(figures)),
    )


def count(layers: Sequence[Sizes], target: Target, cache: ObjectCache) -> Iterator[Figure]:
    """Yield the figures of every layer in every format."""
    cases = [(sizes, mode, bits) for sizes in layers for mode, bits in FORMATS]
    dense = [dense_kernel(*case, target) for case in cases]
    thin = [[skipping(d, case[0], share, target) for share in SHARES]
            for d, case in zip(dense, cases, strict=True)]  # fmt: skip
    kernels = {symbol(k, target): k for k in dense}
    values: dict[str, dict[int, tuple[int, ...]]] = {}
    for case, some in zip(cases, thin, strict=True):
        for share, kernel in zip(SHARES, some, strict=True):
            name = symbol(kernel, target)
            kernels[name], values[name] = kernel, {1: stream(kernel, case[0], share)}
    counted = dict(kernel_cycles(kernels, target, cache, values))
    for (sizes, mode, _), d, some in zip(cases, dense, thin, strict=True):
        by_share, far = {0: d, **dict(zip(SHARES, some, strict=True))}, outgrows_cache(d, target)
        memory = {share: far * memory_cycles(k, target) for share, k in by_share.items()}
        spent = {s: max(counted[symbol(k, target)], memory[s]) for s, k in by_share.items()}
        yield Figure(
            sizes.name,
            mode,
            d.kind,
            spent.pop(0),
            spent,
            {share: cycles(k, target, far) for share, k in by_share.items()},
            tuple(share for share in SHARES if faster(by_share[share], d, target)),
        )


def dense_kernel(sizes: Sizes, mode: Mode, bits: int, target: Target) -> Any:
    """Return the kernel of a layer without zeros, a ReLU in it."""
    s = sizes
    layer: nn.Module = nn.Conv2d(s.inputs, s.outputs, s.kernel, s.stride, s.kernel // 2)
    if s.side == 1:
        layer = nn.Linear(s.inputs, s.outputs)
    network = nn.Sequential(nn.Flatten() if s.side == 1 else nn.Identity(), layer, nn.ReLU())
    program = fuse(import_module(network.eval(), (s.inputs, s.side, s.side)))
    policy = Policy((LayerPolicy(LAYER, s.outputs, mode, bits, bits),))
    calls = select(program, policy, target).calls
    return next(call.kernel for call in reversed(calls) if call.layer)


def skipping(dense: Any, sizes: Sizes, share: int, target: Target) -> Skipping:
    """Return the kernel of the same layer with a share of zeros in blocks."""
    stays = kept(_form(sizes, share), sizes.outputs, sizes.inputs * sizes.kernel**2)
    assert stays is not None
    if isinstance(dense, Int8Conv):
        return skipping_int8(dense, stays)
    return skipping_float(dense, stays, target)


def stream(kernel: Skipping, sizes: Sizes, share: int) -> tuple[int, ...]:
    """Return the weights of a kernel, made up as for a measurement of latency."""
    _, shape, dtype = kernel.weights.parameter
    stays = kept(_form(sizes, share), sizes.outputs, sizes.inputs * sizes.kernel**2)
    weight = Weight("w", "block_weight", "", "", shape, dtype, block_params(kernel), stays)
    return tuple(int(word) for word in synthetic(row(weight)))


def shows(figures: Sequence[Figure]) -> Iterator[Show]:
    """Yield how much faster the taken kernels are, and how far forecasts are off."""
    gains = [f.dense / f.skipping[share] for f in figures for share in f.taken]
    if not gains:
        raise BuildError("no layer takes a kernel that skips blocks")
    yield Show("dense over skipping kernel where it is taken, least", min(gains), "x", 1.0)
    errors = sorted(
        abs(f.forecast[share] / f.skipping[share] - 1) for f in figures for share in SHARES
    )
    yield Show("forecast of a skipping kernel, median error", errors[len(errors) // 2], "")


def _form(sizes: Sizes, share: int) -> LayerPolicy:
    return LayerPolicy(LAYER, sizes.outputs, pruner=BLOCK, zeros=share)
