"""Kernels of float layers: convolutions by their shape, and linear ones."""

from __future__ import annotations

from dataclasses import replace

from host.lower.kernels.conv_fp32 import ConvFp32
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.dense_fp32 import DenseFp32, dense_tile
from host.lower.kernels.depthwise_fp32 import DepthwiseFp32
from host.lower.kernels.float_conv import NHWC
from host.lower.kernels.grouped_fp32 import GroupedConvFp32
from host.lower.kernels.kernel import Kernel
from host.lower.kernels.register_tile import covering_tile
from host.lower.kernels.winograd import WinogradFp32, squares_of, winograd_outputs
from host.lower.plan import Argument
from host.lower.program import Node
from host.lower.select_blocks import block_weight, float_blocks
from host.lower.selector import Selector, order_of, shape_of


def float_conv(sel: Selector, node: Node) -> None:
    shape = shape_of(node)
    x = sel.materialise(node.inputs[0], NHWC)
    if shape.groups > 1:
        _grouped_conv(sel, node, shape, x)
        return
    dense: WinogradFp32 | ConvFp32
    if outputs := winograd_outputs(shape, sel.target):
        tile = covering_tile(squares_of(shape, outputs), shape.out_channels, sel.target)
        dense = WinogradFp32(shape, outputs, tile.channels, tile.pixels, **sel.post(node))
    else:
        dense = ConvFp32.tiled(shape, sel.target, **sel.post(node))
    _float_layer(sel, node, dense, x, NHWC)


def float_linear(sel: Selector, node: Node) -> None:
    shape, order = shape_of(node), order_of(node)
    tokens = shape.width
    x = sel.materialise(node.inputs[0], order)
    x = replace(x, shape=(1, 1, tokens, shape.in_channels))
    tile = dense_tile(tokens, shape.out_channels, sel.target)
    kernel = DenseFp32(shape, tile.channels, tile.pixels, **sel.post(node), lead=node.shape[:-1])
    _float_layer(sel, node, kernel, x, order)


def _float_layer(
    sel: Selector,
    node: Node,
    dense: ConvFp32 | DenseFp32 | WinogradFp32,
    x: Argument,
    order: tuple[int, ...],
) -> None:
    kernel: Kernel = dense
    if blocks := float_blocks(sel, node, dense):
        kernel, w = blocks, block_weight(sel, node, blocks)
    elif isinstance(dense, WinogradFp32):
        w = _winograd_weight(sel, node, dense)
    else:
        w = _tiled_weight(sel, node, dense)
    channels = (shape_of(node).out_channels,)
    bias = sel.weight("conv_bias", node.layer, channels, "float32", norm=node.norm)
    sel.call(node, kernel, (x, w, bias, *sel.operands(node)[1]), order=order)


def _tiled_weight(sel: Selector, node: Node, kernel: ConvFp32 | DenseFp32) -> Argument:
    c = kernel.conv
    stored = (kernel.blocks, *c.kernel, c.in_channels, kernel.tile)
    params = {"norm": node.norm, "tile": kernel.tile}
    return sel.layer_weight("conv_weight", node, stored, "float32", **params)


def _winograd_weight(sel: Selector, node: Node, kernel: WinogradFp32) -> Argument:
    c = kernel.conv
    stored = (kernel.blocks, kernel.points, c.in_channels, kernel.tile)
    params = {
        "norm": node.norm,
        "n": c.out_channels,
        "channels": c.in_channels,
        "side": kernel.side,
        "n_tile": kernel.tile,
    }
    return sel.layer_weight("winograd_weight", node, stored, "float32", **params)


def _grouped_conv(sel: Selector, node: Node, shape: ConvShape, x: Argument) -> None:
    stored = (*shape.kernel, shape.in_channels // shape.groups, shape.out_channels)
    params = {"norm": node.norm, "tile": shape.out_channels}
    w = sel.layer_weight("grouped_weight", node, stored, "float32", **params)
    bias = sel.weight("conv_bias", node.layer, (shape.out_channels,), "float32", norm=node.norm)
    depthwise = shape.groups == shape.in_channels == shape.out_channels
    family = DepthwiseFp32 if depthwise else GroupedConvFp32
    kernel = family(shape, **sel.post(node))
    sel.call(node, kernel, (x, w, bias, *sel.operands(node)[1]), order=NHWC)
