"""The plan in the making: what every choice of kernels needs, and no choice itself."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from host.lower.fuse import NORM_SCALE, NORM_SHIFT, shift_steps
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.dense_fp32 import dense_shape
from host.lower.kernels.elementwise import Copy
from host.lower.kernels.float_conv import NHWC
from host.lower.kernels.kernel import Accessor, Kernel
from host.lower.plan import Argument, Call, Plan, Weight
from host.lower.program import PARAM, Node, Program, Shape, View
from host.lower.storage import thinned
from host.lower.targets import Target
from host.lower.views import is_alias, physical
from host.policy import LayerPolicy
from host.sparsity import Kept, kept


class Selector:
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

    def run(self, choices: Mapping[str, Callable[[Selector, Node], None]]) -> Plan:
        """Add the calls of every node, as the choice for its operation says."""
        for node in self.program.nodes:
            choices[node.op](self, node)
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

    def weight(
        self,
        role: str,
        path: str,
        shape: Shape,
        dtype: str,
        *,
        kept: Kept | None = None,
        **params: Any,
    ) -> Argument:
        """Name a weight tensor; equal ones are shared."""
        name = f"{path}:{role}"
        layer = path if path in self.formats else ""
        self.weights[name] = Weight(name, role, path, layer, shape, dtype, params, kept)
        return Argument(name, shape)

    def layer_weight(
        self, role: str, node: Node, shape: Shape, dtype: str, **params: Any
    ) -> Argument:
        """Name the weights of a layer, sparse where its policy thins them and that is less."""
        argument = self.weight(role, node.layer, shape, dtype, **params)
        self.weights[argument.name] = thinned(self.weights[argument.name], self.kept(node))
        return argument

    def kept(self, node: Node) -> Kept | None:
        """Return what the policy keeps of a layer's weights; None where it keeps all."""
        form, c = self.formats.get(node.layer), shape_of(node)
        return kept(form, c.out_channels, c.taps * c.in_channels // c.groups) if form else None

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


def shape_of(node: Node) -> ConvShape:
    """Return the sizes of a layer; a dense one is a convolution of one line of tokens."""
    if node.op == "linear":
        tokens, features = math.prod(node.shape[:-1]), node.inputs[0].shape[-1]
        return dense_shape(tokens, features, node.shape[-1])
    _, channels, height, width = node.inputs[0].shape
    a = node.attrs
    sizes = (a["kernel"], a["stride"], a["padding"], a["groups"])
    return ConvShape(height, width, channels, node.shape[1], *sizes)


def order_of(node: Node) -> tuple[int, ...]:
    """Return how a layer reads its input and stores its result."""
    return NHWC if node.op == "conv" else tuple(range(len(node.shape)))


def quantized(sel: Selector, node: Node) -> bool:
    """Whether a layer computes in integers."""
    return node.layer in sel.formats and sel.formats[node.layer].mode != "fp32"
