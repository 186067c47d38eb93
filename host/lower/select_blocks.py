"""Kernels of layers that are thinned in blocks, where they are forecast to beat the dense ones.

The forecast is the simulated board's arithmetic, and the way of weights that no cache holds. Other
targets stand to it as measured (docs/performance.md).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from host.lower.cycles import compute_cycles
from host.lower.kernels.block_fp32 import BlockFp32, strip_of
from host.lower.kernels.block_int8 import WIDEST_STRIP, BlockInt8
from host.lower.kernels.conv_fp32 import ConvFp32
from host.lower.kernels.dense_fp32 import DenseFp32
from host.lower.kernels.float_conv import NHWC
from host.lower.kernels.int8_conv import Int8Conv
from host.lower.kernels.kernel import Kernel
from host.lower.kernels.winograd import WinogradFp32
from host.lower.plan import Argument
from host.lower.program import Node, Shape
from host.lower.selector import Selector, shape_of
from host.lower.targets import Target
from host.sparsity import BLOCK_OUTPUTS, Kept

# What skipping must save before it is taken: forecasts are off by some percent.
MARGIN = 0.9
# How much better a target's dense int8 products are, against those of blocks, than a Cortex-A72's.
# AVX-512's products of four bytes are for runs of neighbours, which single blocks are not.
DENSE_INT8 = {"smull": 1.0, "pmaddwd": 1.0, "vpdpbusd": 3.5}
DenseFloat = ConvFp32 | DenseFp32 | WinogradFp32
Skipping = BlockFp32 | BlockInt8


def float_blocks(sel: Selector, node: Node, dense: DenseFloat) -> BlockFp32 | None:
    """Return the kernel that skips a float layer's blocks of zeros, where that is faster."""
    kept = _blocks(sel, node)
    kernel = skipping_float(dense, kept, sel.target) if kept else None
    return kernel if kernel and faster(kernel, dense, sel.target) else None


def int8_blocks(sel: Selector, node: Node, dense: Int8Conv) -> BlockInt8 | None:
    """Return the kernel that skips an int8 layer's blocks of zeros, where that is faster."""
    kept = _blocks(sel, node)
    kernel = skipping_int8(dense, kept) if kept else None
    return kernel if kernel and faster(kernel, dense, sel.target) else None


def skipping_float(dense: DenseFloat, kept: Kept, target: Target) -> BlockFp32:
    """Return the kernel that does what a dense one does, on the blocks that are kept."""
    c = dense.conv
    shape: Shape = (1, c.out_channels, c.out_height, c.out_width)
    order: tuple[int, ...] = NHWC
    if isinstance(dense, DenseFp32):
        shape = (*dense.lead, c.out_channels)
        order = tuple(range(len(shape)))
    strip = strip_of(c.out_height * c.out_width, target)
    return BlockFp32(c, kept.count, strip, shape, order, dense.operands, dense.post)


def skipping_int8(dense: Int8Conv, kept: Kept) -> BlockInt8:
    """Return the same for an int8 layer."""
    pixels = min(dense.output.rows, WIDEST_STRIP)
    return BlockInt8(dense.output, pixels, BLOCK_OUTPUTS, dense.conv, dense.codes, kept.count)


def block_weight(sel: Selector, node: Node, kernel: Skipping) -> Argument:
    """Name the weights of a layer as its kernel walks them."""
    _, shape, dtype = kernel.weights.parameter
    params, kept = block_params(kernel), sel.kept(node)
    return sel.weight("block_weight", node.layer, shape, dtype, kept=kept, norm=node.norm, **params)


def block_params(kernel: Skipping) -> dict[str, Any]:
    """Return what the encoding `blocks` is told (docs/artifact.md)."""
    values = "float32" if isinstance(kernel, BlockFp32) else "int8"
    return {"values": values, "depth": kernel.weights.depth, **kernel.planes.steps}


def faster(kernel: Kernel, dense: Kernel, target: Target) -> bool:
    """Whether a kernel is forecast to take so much fewer cycles that it is taken."""
    far = outgrows_cache(dense, target)
    return cycles(kernel, target, far) < MARGIN * cycles(dense, target, far)


def cycles(kernel: Kernel, target: Target, far: bool) -> float:
    """Return cycles of a call on one Cortex-A72, or as many for another; weights far or near."""
    arithmetic = compute_cycles({"kind": kernel.kind, **asdict(kernel.cost())})
    if isinstance(kernel, Int8Conv):
        arithmetic /= DENSE_INT8[target.int8]
    return max(arithmetic, memory_cycles(kernel, target) if far else 0.0)


def memory_cycles(kernel: Kernel, target: Target) -> float:
    """Return cycles in which a kernel's weights come from memory."""
    return kernel.cost().weight_bytes / target.stream_bytes_per_cycle


def outgrows_cache(dense: Kernel, target: Target) -> bool:
    """Whether weights are in memory: where all do not fit, none of them are taken to be near."""
    return dense.cost().weight_bytes > target.l2_bytes


def _blocks(sel: Selector, node: Node) -> Kept | None:
    kept = sel.kept(node)
    return kept if kept and kept.height == BLOCK_OUTPUTS and shape_of(node).groups == 1 else None
