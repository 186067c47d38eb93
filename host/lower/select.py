"""From a fused program and a policy to a plan: one or more kernel calls for every node."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from host.errors import UnsupportedLayer
from host.lower.fuse import NORM_SCALE, NORM_SHIFT, shift_steps
from host.lower.kernels.bit_gemm import COLUMN_TILE, K_BYTES, ROW_TILE, BitGemm
from host.lower.kernels.bit_pack import BitPack
from host.lower.kernels.codes import Codes
from host.lower.kernels.conv_fp32 import ConvFp32
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.dense_fp32 import DenseFp32, dense_shape, dense_tile
from host.lower.kernels.depthwise_fp32 import DepthwiseFp32
from host.lower.kernels.elementwise import Concatenate, Copy, Elementwise
from host.lower.kernels.float_conv import NHWC
from host.lower.kernels.grouped_fp32 import GroupedConvFp32
from host.lower.kernels.int8_conv import Int8Conv, int8_tile
from host.lower.kernels.int8_depthwise import LINES, Int8Depthwise, depthwise_tile
from host.lower.kernels.integer_product import IntegerProduct, Output
from host.lower.kernels.kernel import Accessor, Kernel
from host.lower.kernels.matmul_fp32 import MatmulFp32, Strided
from host.lower.kernels.normalise import LayerNorm, Softmax
from host.lower.kernels.pool import Pool
from host.lower.kernels.quantize import Quantize
from host.lower.kernels.register_tile import covering_tile
from host.lower.kernels.winograd import WinogradFp32, squares_of, winograd_outputs
from host.lower.plan import Argument, Call, CodesOf, Plan, Weight
from host.lower.program import PARAM, Node, Program, Shape, View
from host.lower.targets import Target
from host.lower.views import is_alias, natural_order, physical, strides
from host.policy import LayerPolicy, Policy


def select(program: Program, policy: Policy, target: Target) -> Plan:
    """Choose the kernels of a program; the policy says each layer's number format."""
    return _Selector(program, {p.layer: p for p in policy.layers}, target).run()


class _Selector:
    """Walks the nodes; `orders` says how each tensor is stored, `codes` holds those stored so."""

    def __init__(
        self, program: Program, formats: Mapping[str, LayerPolicy], target: Target
    ) -> None:
        self.program = program
        self.formats = formats
        self.target = target
        self.shapes: dict[str, Shape] = {program.input: program.input_shape}
        self.orders: dict[str, tuple[int, ...]] = {
            program.input: tuple(range(len(program.input_shape)))
        }
        self.codes: dict[str, Argument] = {}
        self.calls: list[Call] = []
        self.weights: dict[str, Weight] = {}
        self.copies = 0
        self.readers: dict[str, list[Node]] = defaultdict(list)
        for node in program.nodes:
            for view in node.inputs:
                self.readers[view.tensor].append(node)

    def run(self) -> Plan:
        for node in self.program.nodes:
            _SELECT[node.op](self, node)
        view = self.program.output
        output = self.materialise(view, tuple(range(len(view.shape))))
        weights = tuple(self.weights.values())
        program = self.program
        return Plan(tuple(self.calls), weights, program.input, program.input_shape, output)

    def call(
        self,
        node: Node,
        kernel: Kernel,
        arguments: tuple[Argument, ...],
        *,
        order: tuple[int, ...] | None = None,
        **tags: Any,
    ) -> Argument:
        """Add a call; with `order` its destination is the node's own tensor, stored so."""
        out = node.name if order is not None else f"{node.name}.{kernel.kind}"
        if order is not None:
            self.shapes[out], self.orders[out] = node.shape, order
        self.calls.append(Call(kernel, arguments, out, node.layer, **tags))
        return Argument(out, kernel.out_shape)

    def weight(self, role: str, path: str, shape: Shape, dtype: str, **params: Any) -> Argument:
        """Name a weight tensor; equal ones are shared."""
        name = f"{path}:{role}"
        layer = path if path in self.formats else ""
        self.weights[name] = Weight(name, role, path, layer, shape, dtype, params)
        return Argument(name, shape)

    def operand(self, view: View) -> tuple[Accessor, Argument]:
        """Return how a kernel reads a view in place, and the argument for it."""
        for prefix, role in (
            (PARAM, "param"),
            (NORM_SCALE, "norm_scale"),
            (NORM_SHIFT, "norm_shift"),
        ):
            if view.tensor.startswith(prefix):
                path = view.tensor.removeprefix(prefix)
                argument = self.weight(role, path, view.base_shape, "float32")
                order = tuple(range(len(view.base_shape)))
                return Accessor(view.base_shape, order, view.steps), argument
        order = self.orders[view.tensor]
        stored = physical(self.shapes[view.tensor], order)
        return Accessor(stored, order, view.steps), Argument(view.tensor, stored)

    def operands(self, node: Node) -> tuple[tuple[Accessor, ...], tuple[Argument, ...]]:
        """Return the accessors and arguments of a node's epilogue."""
        pairs = [self.operand(view) for view in node.inputs[node.primary :]]
        return tuple(a for a, _ in pairs), tuple(b for _, b in pairs)

    def materialise(self, view: View, order: tuple[int, ...]) -> Argument:
        """Return a tensor that holds the view stored in `order`, copied only where it must be."""
        accessor, argument = self.operand(view)
        stored = physical(view.shape, order)
        if is_alias(view, accessor.order, order):
            return replace(argument, shape=stored)
        self.copies += 1
        node = Node(f"copy{self.copies}", "copy", (view,), view.shape)
        return self.call(node, Copy(view.shape, order, (accessor,)), (argument,), order=order)

    def post(self, node: Node) -> dict[str, Any]:
        """Return the epilogue fields of a kernel, its operands counted from 0."""
        accessors, _ = self.operands(node)
        return {"operands": accessors, "post": shift_steps(node.post, -node.primary)}


def _shape(node: Node) -> ConvShape:
    """Return the sizes of a layer; a dense one is a convolution of one line of tokens."""
    if node.op == "linear":
        tokens, features = math.prod(node.shape[:-1]), node.inputs[0].shape[-1]
        return dense_shape(tokens, features, node.shape[-1])
    _, channels, height, width = node.inputs[0].shape
    a = node.attrs
    sizes = (a["kernel"], a["stride"], a["padding"], a["groups"])
    return ConvShape(height, width, channels, node.shape[1], *sizes)


def _order(node: Node) -> tuple[int, ...]:
    """Return how a layer reads its input and stores its result."""
    return NHWC if node.op == "conv" else tuple(range(len(node.shape)))


def _conv(sel: _Selector, node: Node) -> None:
    if _quantized(sel, node):
        _integer_layer(sel, node)
        return
    shape = _shape(node)
    x = sel.materialise(node.inputs[0], NHWC)
    if shape.groups > 1:
        _grouped_conv(sel, node, shape, x)
        return
    if outputs := winograd_outputs(shape, sel.target):
        _winograd(sel, node, shape, x, outputs)
        return
    kernel = ConvFp32.tiled(shape, sel.target, **sel.post(node))
    _float_layer(sel, node, kernel, x, NHWC)


def _linear(sel: _Selector, node: Node) -> None:
    if _quantized(sel, node):
        _integer_layer(sel, node)
        return
    shape, order = _shape(node), _order(node)
    tokens = shape.width
    x = sel.materialise(node.inputs[0], order)
    x = replace(x, shape=(1, 1, tokens, shape.in_channels))
    tile = dense_tile(tokens, shape.out_channels, sel.target)
    kernel = DenseFp32(shape, tile.channels, tile.pixels, **sel.post(node), lead=node.shape[:-1])
    _float_layer(sel, node, kernel, x, order)


def _quantized(sel: _Selector, node: Node) -> bool:
    return node.layer in sel.formats and sel.formats[node.layer].mode != "fp32"


def _float_layer(
    sel: _Selector,
    node: Node,
    kernel: ConvFp32 | DenseFp32,
    x: Argument,
    order: tuple[int, ...],
) -> None:
    c = kernel.conv
    stored = (kernel.blocks, *c.kernel, c.in_channels, kernel.tile)
    params = {"norm": node.norm, "tile": kernel.tile}
    w = sel.weight("conv_weight", node.layer, stored, "float32", **params)
    bias = sel.weight("conv_bias", node.layer, (c.out_channels,), "float32", norm=node.norm)
    sel.call(node, kernel, (x, w, bias, *sel.operands(node)[1]), order=order)


def _winograd(sel: _Selector, node: Node, shape: ConvShape, x: Argument, outputs: int) -> None:
    squares = squares_of(shape, outputs)
    tile = covering_tile(squares, shape.out_channels, sel.target)
    kernel = WinogradFp32(shape, outputs, tile.channels, tile.pixels, **sel.post(node))
    stored = (kernel.blocks, kernel.points, shape.in_channels, kernel.tile)
    params = {
        "norm": node.norm,
        "n": shape.out_channels,
        "channels": shape.in_channels,
        "side": kernel.side,
        "n_tile": kernel.tile,
    }
    w = sel.weight("winograd_weight", node.layer, stored, "float32", **params)
    bias = sel.weight("conv_bias", node.layer, (shape.out_channels,), "float32", norm=node.norm)
    sel.call(node, kernel, (x, w, bias, *sel.operands(node)[1]), order=NHWC)


def _grouped_conv(sel: _Selector, node: Node, shape: ConvShape, x: Argument) -> None:
    stored = (*shape.kernel, shape.in_channels // shape.groups, shape.out_channels)
    w = sel.weight("grouped_weight", node.layer, stored, "float32", norm=node.norm)
    bias = sel.weight("conv_bias", node.layer, (shape.out_channels,), "float32", norm=node.norm)
    depthwise = shape.groups == shape.in_channels == shape.out_channels
    family = DepthwiseFp32 if depthwise else GroupedConvFp32
    kernel = family(shape, **sel.post(node))
    sel.call(node, kernel, (x, w, bias, *sel.operands(node)[1]), order=NHWC)


def _integer_layer(sel: _Selector, node: Node) -> None:
    """Multiply in integers; where one integer layer alone reads the result, write its codes."""
    form, order = sel.formats[node.layer], _order(node)
    codes, reader = _codes(sel, node), _integer_reader(sel, node)
    layout = _layout(sel, reader) if reader else None
    output = Output(node.shape, order, **sel.post(node), codes=layout)
    if _shape(node).groups > 1:
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


def _layout(sel: _Selector, node: Node) -> Codes:
    """Return how the input of an integer layer lies."""
    form, c = sel.formats[node.layer], _shape(node)
    signed = form.mode == "int8" and sel.target.int8 == "smull"
    return Codes(c.height, c.width, c.in_channels, c.padding, form.act_bits, signed)


def _codes(sel: _Selector, node: Node) -> Argument:
    """Return the codes of a layer's input, from its producer or quantized here."""
    view = node.inputs[0]
    if view.tensor in sel.codes:
        return sel.codes[view.tensor]
    layout = _layout(sel, node)
    x = sel.materialise(view, _order(node))
    x = replace(x, shape=(1, layout.height, layout.width, layout.channels))
    quantizer = sel.weight("quantizer", node.layer, (2,), "float32")
    writes = CodesOf(node.layer, layout)
    return sel.call(node, Quantize(layout), (x, quantizer), writes=writes)


def _integer_reader(sel: _Selector, node: Node) -> Node | None:
    """Return the integer layer that alone reads a result, and reads it as it is stored."""
    readers = sel.readers[node.name]
    if len(readers) != 1 or sel.program.output.tensor == node.name:
        return None
    reader = readers[0]
    if reader.op not in ("conv", "linear") or not _quantized(sel, reader):
        return None
    view = reader.inputs[0]
    if view.tensor != node.name or not is_alias(view, _order(node), _order(reader)):
        return None
    return reader


def _int8_product(
    sel: _Selector, node: Node, codes: Argument, output: Output
) -> tuple[IntegerProduct, tuple[Argument, ...]]:
    shape = _shape(node)
    tile, depth = int8_tile(shape.out_width, shape.out_channels, sel.target)
    layout = _layout(sel, node)
    kernel = Int8Conv(output, tile.pixels, tile.channels, shape, layout, depth)
    tiles = {"lines": shape.kernel[0], "n_tile": kernel.tile, "k_tile": depth}
    return kernel, (codes, _integer_weight(sel, node, kernel, "int8_weight", tiles))


def _depthwise_product(
    sel: _Selector, node: Node, codes: Argument, output: Output
) -> tuple[IntegerProduct, tuple[Argument, ...]]:
    shape, lines = _shape(node), LINES[sel.target.int8]
    pixels, tile = depthwise_tile(shape, sel.target)
    kernel = Int8Depthwise(output, pixels, tile, shape, _layout(sel, node), lines)
    _, (_, stored, dtype) = kernel.operand_parameters
    params = {"lines": lines, "tile": tile}
    return kernel, (codes, sel.weight("depthwise_weight", node.layer, stored, dtype, **params))


def _bit_product(
    sel: _Selector, node: Node, codes: Argument, output: Output
) -> tuple[IntegerProduct, tuple[Argument, ...]]:
    form, shape = sel.formats[node.layer], _shape(node)
    pack = BitPack(shape, _layout(sel, node), K_BYTES)
    matrix = sel.call(node, pack, (codes,))
    bits, pixels = form.weight_bits, min(ROW_TILE, output.rows)
    kernel = BitGemm(output, pixels, COLUMN_TILE, pack.depth, bits, form.act_bits)
    tiles = {"n_tile": COLUMN_TILE, "k_bytes": K_BYTES, "bits": bits}
    return kernel, (matrix, _integer_weight(sel, node, kernel, "bit_weight", tiles))


def _integer_weight(
    sel: _Selector, node: Node, kernel: IntegerProduct, role: str, tiles: Mapping[str, int]
) -> Argument:
    """Name the weights of an integer layer; they travel as [n, taps, channels]."""
    shape = _shape(node)
    extents = {"n": shape.out_channels, "taps": shape.taps, "channels": shape.in_channels}
    _, (_, stored, dtype) = kernel.operand_parameters
    return sel.weight(role, node.layer, stored, dtype, **extents, **tiles)


def _pointwise(sel: _Selector, node: Node) -> None:
    pairs = [sel.operand(view) for view in node.inputs]
    first = node.inputs[0]
    follows = not first.steps and first.tensor in sel.orders and first.shape == node.shape
    order = sel.orders[first.tensor] if follows else natural_order(len(node.shape))
    kernel = Elementwise(node.shape, order, tuple(a for a, _ in pairs), node.post)
    sel.call(node, kernel, tuple(b for _, b in pairs), order=order)


def _cat(sel: _Selector, node: Node) -> None:
    pairs = [sel.operand(view) for view in node.inputs]
    order = natural_order(len(node.shape))
    dim = node.attrs["dim"]
    extents = tuple(view.shape[dim] for view in node.inputs)
    accessors = tuple(a for a, _ in pairs)
    kernel = Concatenate(node.shape, order, dim, extents, accessors)
    sel.call(node, kernel, tuple(b for _, b in pairs), order=order)


def _pool(sel: _Selector, node: Node) -> None:
    _, channels, height, width = node.inputs[0].shape
    a = node.attrs
    shape = ConvShape(height, width, channels, channels, a["kernel"], a["stride"], a["padding"])
    x = sel.materialise(node.inputs[0], NHWC)
    sel.call(node, Pool(shape, a["reduce"]), (x,), order=NHWC)


def _token_mean(sel: _Selector, node: Node) -> None:
    _, tokens, width = node.inputs[0].shape
    shape = ConvShape(tokens, 1, width, width, (tokens, 1), (1, 1), (0, 0))
    x = replace(sel.materialise(node.inputs[0], (0, 1, 2)), shape=(1, tokens, 1, width))
    sel.call(node, Pool(shape, "mean"), (x,), order=(0, 1, 2))


def _matmul(sel: _Selector, node: Node) -> None:
    if node.inputs[0].shape[:-2] != node.inputs[1].shape[:-2]:
        raise UnsupportedLayer("a matrix product of two activations with unlike batches")
    inner, columns = node.inputs[0].shape[-1], node.shape[-1]
    left, right = node.inputs[:2]
    (a, x), (b, y) = _strided(sel, left), _strided(sel, right)
    if node.attrs["transpose_b"]:
        b = replace(b, strides=(*b.strides[:-2], b.strides[-1], b.strides[-2]))
    tile = covering_tile(node.shape[-2], columns, sel.target)
    order = _product_order(sel, node)
    shape = (tile.channels, tile.pixels, order)
    kernel = MatmulFp32(node.shape, inner, a, b, *shape, **sel.post(node))
    sel.call(node, kernel, (x, y, *sel.operands(node)[1]), order=order)


def _strided(sel: _Selector, view: View) -> tuple[Strided, Argument]:
    """Return how a product reads a view, copied only where it is not regular."""
    accessor, argument = sel.operand(view)
    found = strides(accessor.steps, accessor.shape, accessor.order)
    if found is None:
        order = tuple(range(len(view.shape)))
        argument = sel.materialise(view, order)
        found = strides((), view.shape, order)
    assert found is not None
    elements = math.prod(argument.shape)
    return Strided(elements, *found), replace(argument, shape=(elements,))


def _product_order(sel: _Selector, node: Node) -> tuple[int, ...]:
    """Return how a product is stored: heads side by side where its readers take them so."""
    order = tuple(range(len(node.shape)))
    heads = (0, 2, 1, 3)
    if len(order) != len(heads):
        return order
    views = [v for reader in sel.readers[node.name] for v in reader.inputs if v.tensor == node.name]
    beside = all(is_alias(v, heads, tuple(range(len(v.shape)))) for v in views)
    return heads if views and beside else order


def _softmax(sel: _Selector, node: Node) -> None:
    order = tuple(range(len(node.shape)))
    rows = (math.prod(node.shape[:-1]), node.shape[-1])
    x = replace(sel.materialise(node.inputs[0], order), shape=rows)
    sel.call(node, Softmax(*rows), (x,), order=order)


def _layer_norm(sel: _Selector, node: Node) -> None:
    order = tuple(range(len(node.shape)))
    rows = (math.prod(node.shape[:-1]), node.shape[-1])
    if len(node.inputs) != 3:
        raise UnsupportedLayer("layer_norm without gain and shift has no kernel")
    x = replace(sel.materialise(node.inputs[0], order), shape=rows)
    terms = tuple(sel.operand(view)[1] for view in node.inputs[1:])
    sel.call(node, LayerNorm(*rows, node.attrs["eps"]), (x, *terms), order=order)


_SELECT: dict[str, Callable[[_Selector, Node], None]] = {
    "conv": _conv,
    "linear": _linear,
    "pointwise": _pointwise,
    "cat": _cat,
    "pool": _pool,
    "token_mean": _token_mean,
    "matmul": _matmul,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
}
