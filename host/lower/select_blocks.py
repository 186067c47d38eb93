"""Kernels of layers that are thinned in blocks, where they are forecast to beat the dense ones.

The forecast is the simulated board's arithmetic, and the way of weights that no cache holds. It is
the Cortex-A72's for every target: so a program that is verified here is the one of the board.
"""

from __future__ import annotations

from dataclasses import asdict

from host.lower.cycles import compute_cycles
from host.lower.kernels.block_fp32 import BlockFp32, strip_of
from host.lower.kernels.block_int8 import WIDEST_STRIP, BlockInt8
from host.lower.kernels.blocks import Blocks
from host.lower.kernels.int8_conv import Int8Conv
from host.lower.kernels.kernel import Kernel
from host.lower.kernels.planes import Planes
from host.lower.plan import Argument
from host.lower.program import Node
from host.lower.selector import Selector, order_of, shape_of
from host.lower.targets import Target
from host.sparsity import BLOCK_OUTPUTS, Kept


def float_blocks(sel: Selector, node: Node, dense: Kernel) -> BlockFp32 | None:
    """Return the kernel that skips a float layer's blocks of zeros, where that is faster."""
    if not (kept := _blocks(sel, node)):
        return None
    c = shape_of(node)
    strip = strip_of(c.out_height * c.out_width, sel.target)
    made = (node.shape, order_of(node))
    kernel = BlockFp32(c, kept.count, strip, *made, **sel.post(node))
    return kernel if cycles(kernel, sel.target) < cycles(dense, sel.target) else None


def integer_blocks(sel: Selector, node: Node, dense: Int8Conv) -> BlockInt8 | None:
    """Return the same for an int8 layer, with the output that the dense kernel has."""
    if not (kept := _blocks(sel, node)):
        return None
    output = dense.output
    tile = (min(output.rows, WIDEST_STRIP), BLOCK_OUTPUTS)
    kernel = BlockInt8(output, *tile, dense.conv, dense.codes, kept.count)
    return kernel if cycles(kernel, sel.target) < cycles(dense, sel.target) else None


def block_weight(
    sel: Selector, node: Node, blocks: Blocks, planes: Planes, values: str
) -> Argument:
    """Name the weights of a layer as its kernel walks them."""
    params = {"norm": node.norm, "values": values, "depth": blocks.depth, **planes.steps}
    _, shape, dtype = blocks.parameter
    kept = sel.kept(node)
    return sel.weight("block_weight", node.layer, shape, dtype, kept=kept, **params)


def cycles(kernel: Kernel, target: Target) -> float:
    """Return cycles of a call on one core of a Cortex-A72."""
    cost = kernel.cost()
    stream = cost.weight_bytes if cost.weight_bytes > target.l2_bytes else 0
    arithmetic = compute_cycles({"kind": kernel.kind, **asdict(cost)})
    return max(arithmetic, stream / target.stream_bytes_per_cycle)


def _blocks(sel: Selector, node: Node) -> Kept | None:
    kept = sel.kept(node)
    return kept if kept and kept.height == BLOCK_OUTPUTS and shape_of(node).groups == 1 else None
