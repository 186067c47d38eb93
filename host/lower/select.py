"""From a fused program and a policy to a plan: one or more kernel calls for every node."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from host.errors import UnsupportedLayer
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.elementwise import Concatenate, Elementwise
from host.lower.kernels.float_conv import NHWC
from host.lower.kernels.matmul_fp32 import MatmulFp32, Strided
from host.lower.kernels.normalise import LayerNorm, Softmax
from host.lower.kernels.pool import Pool
from host.lower.kernels.register_tile import covering_tile
from host.lower.plan import Argument, Plan
from host.lower.program import Node, Program, View
from host.lower.select_float import float_conv, float_linear
from host.lower.select_integer import integer_layer
from host.lower.selector import Selector, quantized
from host.lower.targets import Target
from host.lower.views import is_alias, natural_order, strides
from host.policy import Policy


def select(program: Program, policy: Policy, target: Target) -> Plan:
    """Choose the kernels of a program; the policy says each layer's number format."""
    return Selector(program, {p.layer: p for p in policy.layers}, target).run(_SELECT)


def _layer(sel: Selector, node: Node) -> None:
    if quantized(sel, node):
        integer_layer(sel, node)
    elif node.op == "conv":
        float_conv(sel, node)
    else:
        float_linear(sel, node)


def _pointwise(sel: Selector, node: Node) -> None:
    pairs = [sel.operand(view) for view in node.inputs]
    first = node.inputs[0]
    follows = not first.steps and first.tensor in sel.orders and first.shape == node.shape
    order = sel.orders[first.tensor] if follows else natural_order(len(node.shape))
    kernel = Elementwise(node.shape, order, tuple(a for a, _ in pairs), node.post)
    sel.call(node, kernel, tuple(b for _, b in pairs), order=order)


def _cat(sel: Selector, node: Node) -> None:
    pairs = [sel.operand(view) for view in node.inputs]
    order = natural_order(len(node.shape))
    dim = node.attrs["dim"]
    extents = tuple(view.shape[dim] for view in node.inputs)
    accessors = tuple(a for a, _ in pairs)
    kernel = Concatenate(node.shape, order, dim, extents, accessors)
    sel.call(node, kernel, tuple(b for _, b in pairs), order=order)


def _pool(sel: Selector, node: Node) -> None:
    _, channels, height, width = node.inputs[0].shape
    a = node.attrs
    shape = ConvShape(height, width, channels, channels, a["kernel"], a["stride"], a["padding"])
    x = sel.materialise(node.inputs[0], NHWC)
    sel.call(node, Pool(shape, a["reduce"]), (x,), order=NHWC)


def _token_mean(sel: Selector, node: Node) -> None:
    _, tokens, width = node.inputs[0].shape
    shape = ConvShape(tokens, 1, width, width, (tokens, 1), (1, 1), (0, 0))
    x = replace(sel.materialise(node.inputs[0], (0, 1, 2)), shape=(1, tokens, 1, width))
    sel.call(node, Pool(shape, "mean"), (x,), order=(0, 1, 2))


def _matmul(sel: Selector, node: Node) -> None:
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


def _strided(sel: Selector, view: View) -> tuple[Strided, Argument]:
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


def _product_order(sel: Selector, node: Node) -> tuple[int, ...]:
    """Return how a product is stored: heads side by side where its readers take them so."""
    order = tuple(range(len(node.shape)))
    heads = (0, 2, 1, 3)
    if len(order) != len(heads):
        return order
    views = [v for reader in sel.readers[node.name] for v in reader.inputs if v.tensor == node.name]
    beside = all(is_alias(v, heads, tuple(range(len(v.shape)))) for v in views)
    return heads if views and beside else order


def _softmax(sel: Selector, node: Node) -> None:
    order = tuple(range(len(node.shape)))
    rows = (math.prod(node.shape[:-1]), node.shape[-1])
    x = replace(sel.materialise(node.inputs[0], order), shape=rows)
    sel.call(node, Softmax(*rows), (x,), order=order)


def _layer_norm(sel: Selector, node: Node) -> None:
    order = tuple(range(len(node.shape)))
    rows = (math.prod(node.shape[:-1]), node.shape[-1])
    if len(node.inputs) != 3:
        raise UnsupportedLayer("layer_norm without gain and shift has no kernel")
    x = replace(sel.materialise(node.inputs[0], order), shape=rows)
    terms = tuple(sel.operand(view)[1] for view in node.inputs[1:])
    sel.call(node, LayerNorm(*rows, node.attrs["eps"]), (x, *terms), order=order)


_SELECT: dict[str, Callable[[Selector, Node], None]] = {
    "conv": _layer,
    "linear": _layer,
    "pointwise": _pointwise,
    "cat": _cat,
    "pool": _pool,
    "token_mean": _token_mean,
    "matmul": _matmul,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
}
