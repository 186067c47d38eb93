"""Kernels of quantized layers: codes, integer products, and who writes codes for whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from host.lower.kernels.bit_gemm import COLUMN_TILE, K_BYTES, ROW_TILE, BitGemm
from host.lower.kernels.bit_pack import BitPack
from host.lower.kernels.codes import Codes
from host.lower.kernels.int8_conv import Int8Conv, int8_tile
from host.lower.kernels.int8_depthwise import LINES, Int8Depthwise, depthwise_tile
from host.lower.kernels.integer_product import IntegerProduct, Output
from host.lower.kernels.quantize import Quantize
from host.lower.plan import Argument, CodesOf
from host.lower.program import Node
from host.lower.select_blocks import block_weight, int8_blocks
from host.lower.selector import Selector, order_of, quantized, shape_of
from host.lower.views import is_alias


def integer_layer(sel: Selector, node: Node) -> None:
    """Multiply in integers; where one integer layer alone reads the result, write its codes."""
    form, order = sel.formats[node.layer], order_of(node)
    codes, reader = _codes(sel, node), _integer_reader(sel, node)
    layout = _layout(sel, reader) if reader else None
    output = Output(node.shape, order, **sel.post(node), codes=layout)
    if shape_of(node).groups > 1:
        product = _depthwise_product
    else:
        product = _int8_product if form.mode == "int8" else _bit_product
    kernel, operands = product(sel, node, codes, output)
    channels = (output.channels,)
    offset = _layout(sel, node).offset
    tables = [
        sel.weight("correction", node.layer, channels, "int32", offset=offset),
        sel.weight("scale", node.layer, channels, "float32", norm=node.norm),
        sel.weight("bias", node.layer, channels, "float32", norm=node.norm),
    ]
    if reader:
        tables.append(sel.weight("quantizer", reader.layer, (2,), "float32"))
    reveal = sel.weight("reveal", "", (1,), "int32")
    arguments = (*operands, *tables, *sel.operands(node)[1], reveal)
    if reader and layout:
        writes = CodesOf(reader.layer, layout)
        made = sel.call(node, kernel, arguments, accumulates=True, writes=writes)
        sel.codes[node.name] = made
    else:
        sel.call(node, kernel, arguments, order=order, accumulates=True)


def _layout(sel: Selector, node: Node) -> Codes:
    """Return how the input of an integer layer lies."""
    form, c = sel.formats[node.layer], shape_of(node)
    signed = form.mode == "int8" and sel.target.int8 == "smull"
    return Codes(c.height, c.width, c.in_channels, c.padding, form.act_bits, signed)


def _codes(sel: Selector, node: Node) -> Argument:
    """Return the codes of a layer's input, from its producer or quantized here."""
    view = node.inputs[0]
    if view.tensor in sel.codes:
        return sel.codes[view.tensor]
    layout = _layout(sel, node)
    x = sel.materialise(view, order_of(node))
    x = replace(x, shape=(1, layout.height, layout.width, layout.channels))
    quantizer = sel.weight("quantizer", node.layer, (2,), "float32")
    writes = CodesOf(node.layer, layout)
    return sel.call(node, Quantize(layout), (x, quantizer), writes=writes)


def _integer_reader(sel: Selector, node: Node) -> Node | None:
    """Return the integer layer that alone reads a result, and reads it as it is stored."""
    readers = sel.readers[node.name]
    if len(readers) != 1 or sel.program.output.tensor == node.name:
        return None
    reader = readers[0]
    if reader.op not in ("conv", "linear") or not quantized(sel, reader):
        return None
    view = reader.inputs[0]
    if view.tensor != node.name or not is_alias(view, order_of(node), order_of(reader)):
        return None
    return reader


def _int8_product(
    sel: Selector, node: Node, codes: Argument, output: Output
) -> tuple[IntegerProduct, tuple[Argument, ...]]:
    shape = shape_of(node)
    tile, depth = int8_tile(shape.out_width, shape.out_channels, sel.target)
    layout = _layout(sel, node)
    kernel = Int8Conv(output, tile.pixels, tile.channels, shape, layout, depth)
    if blocks := int8_blocks(sel, node, kernel):
        return blocks, (codes, block_weight(sel, node, blocks))
    tiles = {"lines": shape.kernel[0], "n_tile": kernel.tile, "k_tile": depth}
    return kernel, (codes, _integer_weight(sel, node, kernel, "int8_weight", tiles))


def _depthwise_product(
    sel: Selector, node: Node, codes: Argument, output: Output
) -> tuple[IntegerProduct, tuple[Argument, ...]]:
    shape, lines = shape_of(node), LINES[sel.target.int8]
    pixels, tile = depthwise_tile(shape, sel.target)
    kernel = Int8Depthwise(output, pixels, tile, shape, _layout(sel, node), lines)
    _, (_, stored, dtype) = kernel.operand_parameters
    params = {"lines": lines, "tile": tile}
    return kernel, (codes, sel.layer_weight("depthwise_weight", node, stored, dtype, **params))


def _bit_product(
    sel: Selector, node: Node, codes: Argument, output: Output
) -> tuple[IntegerProduct, tuple[Argument, ...]]:
    form, shape = sel.formats[node.layer], shape_of(node)
    pack = BitPack(shape, _layout(sel, node), K_BYTES)
    matrix = sel.call(node, pack, (codes,))
    bits, pixels = form.weight_bits, min(ROW_TILE, output.rows)
    kernel = BitGemm(output, pixels, COLUMN_TILE, pack.depth, bits, form.act_bits)
    tiles = {"n_tile": COLUMN_TILE, "k_bytes": K_BYTES, "bits": bits}
    return kernel, (matrix, _integer_weight(sel, node, kernel, "bit_weight", tiles))


def _integer_weight(
    sel: Selector, node: Node, kernel: IntegerProduct, role: str, tiles: Mapping[str, int]
) -> Argument:
    """Name the weights of an integer layer; they travel as [n, taps, channels]."""
    shape = shape_of(node)
    extents = {"n": shape.out_channels, "taps": shape.taps, "channels": shape.in_channels}
    _, (_, stored, dtype) = kernel.operand_parameters
    return sel.layer_weight(role, node, stored, dtype, **extents, **tiles)
