"""From a fused program and a policy to a plan: one or more kernel calls for every node."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from host.errors import UnsupportedLayer
from host.lower.fuse import NORM_SCALE, NORM_SHIFT, shift_steps
from host.lower.kernels.bit_gemm import K_BYTES, BitGemm
from host.lower.kernels.conv_fp32 import NHWC, ConvFp32, ConvShape, GroupedConvFp32
from host.lower.kernels.dense_fp32 import DenseFp32, dense_shape
from host.lower.kernels.elementwise import Concatenate, Copy, Elementwise
from host.lower.kernels.epilogue import Epilogue
from host.lower.kernels.im2col import BitPack, Im2col
from host.lower.kernels.int8_gemm import K_TILE, Int8Gemm
from host.lower.kernels.integer_gemm import COLUMN_TILE, ROW_TILE
from host.lower.kernels.kernel import Accessor, Kernel
from host.lower.kernels.matmul_fp32 import MatmulFp32
from host.lower.kernels.normalise import LayerNorm, Softmax
from host.lower.kernels.pool import Pool
from host.lower.kernels.quantize import Quantize
from host.lower.kernels.register_tile import register_tile
from host.lower.plan import Argument, Call, Plan, Weight
from host.lower.program import PARAM, Node, Program, Shape, View
from host.lower.targets import Target
from host.lower.views import is_alias, natural_order, physical
from host.policy import LayerPolicy, Policy


def select(program: Program, policy: Policy, target: Target) -> Plan:
    """Choose the kernels of a program; the policy says each layer's number format."""
    return _Selector(program, {p.layer: p for p in policy.layers}, target).run()


class _Selector:
    """Walks the nodes; `orders` says how each tensor is stored."""

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
        self.calls: list[Call] = []
        self.weights: dict[str, Weight] = {}
        self.copies = 0

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
        **tags: str,
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


def _conv(sel: _Selector, node: Node) -> None:
    _, channels, height, width = node.inputs[0].shape
    attrs = node.attrs
    shape = ConvShape(
        height,
        width,
        channels,
        node.shape[1],
        attrs["kernel"],
        attrs["stride"],
        attrs["padding"],
        attrs["groups"],
    )
    x = sel.materialise(node.inputs[0], NHWC)
    if _quantized(sel, node):
        _integer_layer(sel, node, shape, x, NHWC)
    elif shape.groups > 1:
        _grouped_conv(sel, node, shape, x)
    else:
        tile = register_tile(shape.out_width, shape.out_channels, sel.target)
        kernel = ConvFp32(shape, tile.channels, tile.pixels, **sel.post(node))
        _float_layer(sel, node, kernel, x, NHWC)


def _linear(sel: _Selector, node: Node) -> None:
    order = tuple(range(len(node.shape)))
    tokens, features = math.prod(node.shape[:-1]), node.inputs[0].shape[-1]
    shape = dense_shape(tokens, features, node.shape[-1])
    x = replace(sel.materialise(node.inputs[0], order), shape=(1, 1, tokens, features))
    if _quantized(sel, node):
        _integer_layer(sel, node, shape, x, order)
        return
    tile = register_tile(tokens, shape.out_channels, sel.target)
    kernel = DenseFp32(shape, tile.channels, tile.pixels, **sel.post(node), lead=node.shape[:-1])
    _float_layer(sel, node, kernel, x, order)


def _quantized(sel: _Selector, node: Node) -> bool:
    return node.layer in sel.formats and sel.formats[node.layer].mode != "fp32"


def _float_layer(
    sel: _Selector, node: Node, kernel: ConvFp32, x: Argument, order: tuple[int, ...]
) -> None:
    c = kernel.conv
    stored = (kernel.blocks, *c.kernel, c.in_channels, kernel.tile)
    params = {"norm": node.norm, "tile": kernel.tile}
    w = sel.weight("conv_weight", node.layer, stored, "float32", **params)
    bias = sel.weight("conv_bias", node.layer, (c.out_channels,), "float32", norm=node.norm)
    sel.call(node, kernel, (x, w, bias, *sel.operands(node)[1]), order=order)


def _grouped_conv(sel: _Selector, node: Node, shape: ConvShape, x: Argument) -> None:
    stored = (*shape.kernel, shape.in_channels // shape.groups, shape.out_channels)
    w = sel.weight("grouped_weight", node.layer, stored, "float32", norm=node.norm)
    bias = sel.weight("conv_bias", node.layer, (shape.out_channels,), "float32", norm=node.norm)
    kernel = GroupedConvFp32(shape, **sel.post(node))
    sel.call(node, kernel, (x, w, bias, *sel.operands(node)[1]), order=NHWC)


def _integer_layer(
    sel: _Selector, node: Node, shape: ConvShape, x: Argument, order: tuple[int, ...]
) -> None:
    """Quantize, lay out as a matrix, multiply in integers, and return to float."""
    form = sel.formats[node.layer]
    quantizer = sel.weight("quantizer", node.layer, (2,), "float32")
    quantize = Quantize(shape.height, shape.width, shape.in_channels, shape.padding, form.act_bits)
    codes = sel.call(node, quantize, (x, quantizer), check="quantize", quantizer=quantizer.name)
    product = _int8_product if form.mode == "int8" else _bit_product
    acc = product(sel, node, shape, codes)
    channels = (shape.out_channels,)
    tables = (
        sel.weight("correction", node.layer, channels, "int32", bits=form.act_bits),
        sel.weight("scale", node.layer, channels, "float32", norm=node.norm),
        sel.weight("bias", node.layer, channels, "float32", norm=node.norm),
    )
    epilogue = Epilogue(node.shape, order, acc.shape, **sel.post(node))
    sel.call(node, epilogue, (acc, *tables, *sel.operands(node)[1]), order=order)


def _int8_product(sel: _Selector, node: Node, shape: ConvShape, codes: Argument) -> Argument:
    im2col = Im2col(shape, ROW_TILE, K_TILE)
    if im2col.is_identity:
        matrix = replace(codes, shape=im2col.out_shape)
    else:
        matrix = sel.call(node, im2col, (codes,))
    gemm = Int8Gemm(im2col.rows, shape.out_channels, im2col.depth)
    _, n, k = gemm.padded
    stored = (n // COLUMN_TILE, k // K_TILE, COLUMN_TILE, K_TILE)
    tiles = {**_extents(shape), "n_tile": COLUMN_TILE, "k_tile": K_TILE}
    weight = sel.weight("int8_weight", node.layer, stored, "int8", **tiles)
    return sel.call(node, gemm, (matrix, weight), check="accumulate")


def _extents(shape: ConvShape) -> dict[str, int]:
    """Return the extents of a layer's integer weights as they travel: [n, taps, channels]."""
    taps = math.prod(shape.kernel)
    return {"n": shape.out_channels, "taps": taps, "channels": shape.in_channels}


def _bit_product(sel: _Selector, node: Node, shape: ConvShape, codes: Argument) -> Argument:
    form = sel.formats[node.layer]
    pack = BitPack(shape, form.act_bits, ROW_TILE, K_BYTES)
    matrix = sel.call(node, pack, (codes,))
    bits = form.weight_bits
    gemm = BitGemm(pack.rows, shape.out_channels, pack.depth, bits, form.act_bits)
    _, n, depth = gemm.padded
    stored = (n // COLUMN_TILE, bits, depth // K_BYTES, COLUMN_TILE, K_BYTES)
    tiles = {**_extents(shape), "n_tile": COLUMN_TILE, "k_bytes": K_BYTES, "bits": bits}
    weight = sel.weight("bit_weight", node.layer, stored, "uint8", **tiles)
    return sel.call(node, gemm, (matrix, weight), check="accumulate")


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
    a, b = (sel.operand(view) for view in node.inputs[:2])
    inner, columns = node.inputs[0].shape[-1], node.shape[-1]
    if node.inputs[0].shape[:-2] != node.inputs[1].shape[:-2]:
        raise UnsupportedLayer("a matrix product of two activations with unlike batches")
    tile = register_tile(node.shape[-2], columns, sel.target)
    kernel = MatmulFp32(
        node.shape,
        inner,
        a[0],
        b[0],
        node.attrs["transpose_b"],
        tile.channels,
        tile.pixels,
        **sel.post(node),
    )
    order = tuple(range(len(node.shape)))
    sel.call(node, kernel, (a[1], b[1], *sel.operands(node)[1]), order=order)


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
