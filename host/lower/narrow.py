"""A traced program with fewer channels: its shapes derived anew, without tracing the network again.

Works on unfused programs, whose every tensor follows from the widths of its layers. What cannot be
derived (a parameter as wide as a pruned tensor, a cut or a pad through pruned channels) raises
`CannotNarrow`: the pruned network must then be traced itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from host.lower.program import PARAM, Node, Program, Shape, View, ViewStep


class CannotNarrow(Exception):
    """The narrower program does not follow from the full one; never leaves the lowering."""


def narrow(program: Program, widths: Mapping[str, int]) -> Program:
    """Return the program whose layers have these output channels; raises CannotNarrow."""
    return _Narrowing(program, widths).run()


@dataclass
class _Narrowing:
    """`shapes` are the new shapes of the tensors that are already derived."""

    program: Program
    widths: Mapping[str, int]
    shapes: dict[str, Shape] = field(default_factory=dict)

    def run(self) -> Program:
        program = self.program
        self.shapes[program.input] = program.input_shape
        nodes = tuple(self._node(node) for node in program.nodes)
        return replace(program, nodes=nodes, output=self.view(program.output))

    def _node(self, node: Node) -> Node:
        made = _NODES[node.op](self, node)
        self.shapes[made.name] = made.shape
        return made

    def view(self, view: View, expanded: Shape | None = None) -> View:
        """Return the narrower view; `expanded` is what a last step that broadcasts leads to."""
        base = view.base_shape if view.tensor.startswith(PARAM) else self.shapes[view.tensor]
        made = View(view.tensor, base)
        before = view.base_shape
        for i, step in enumerate(view.steps):
            last = i == len(view.steps) - 1
            if step.op == "expand" and last and expanded is not None:
                shape = expanded
            else:
                shape = _STEPS[step.op](step, before, made.shape)
            made = made.then(step.op, step.params, shape)
            before = step.shape
        return made


def _conv(n: _Narrowing, node: Node) -> Node:
    x = n.view(node.inputs[0])
    full, channels = node.inputs[0].shape[1], x.shape[1]
    width, attrs = n.widths[node.layer], dict(node.attrs)
    if attrs["groups"] == full and node.shape[1] == full:
        width = attrs["groups"] = channels
    elif attrs["groups"] != 1 and (width, channels) != (node.shape[1], full):
        raise CannotNarrow(node.name)
    return replace(node, inputs=(x,), shape=(1, width, *node.shape[2:]), attrs=attrs)


def _linear(n: _Narrowing, node: Node) -> Node:
    x = n.view(node.inputs[0])
    return replace(node, inputs=(x,), shape=(*x.shape[:-1], n.widths[node.layer]))


def _same(n: _Narrowing, node: Node) -> Node:
    x = n.view(node.inputs[0])
    return replace(node, inputs=(x,), shape=x.shape)


def _layer_norm(n: _Narrowing, node: Node) -> Node:
    views = tuple(n.view(view) for view in node.inputs)
    if views[0].shape != node.shape:
        raise CannotNarrow(node.name)
    return replace(node, inputs=views)


def _pointwise(n: _Narrowing, node: Node) -> Node:
    """The result is as wide as its widest operand; parameters must fit it as they are."""
    sources = [n.view(_unexpanded(view, node.shape)) for view in node.inputs]
    shape = sources[0].shape
    for source in sources[1:]:
        shape = _broadcast(shape, source.shape, node.name)
    views = tuple(n.view(view, expanded=shape) for view in node.inputs)
    return replace(node, inputs=views, shape=shape)


def _unexpanded(view: View, shape: Shape) -> View:
    broadcasts = view.steps and view.steps[-1].op == "expand" and view.shape == shape
    return replace(view, steps=view.steps[:-1]) if broadcasts else view


def _broadcast(a: Shape, b: Shape, name: str) -> Shape:
    rank = max(len(a), len(b))
    padded = [(*[1] * (rank - len(s)), *s) for s in (a, b)]
    for x, y in zip(*padded, strict=True):
        if x != y and 1 not in (x, y):
            raise CannotNarrow(name)
    return tuple(max(x, y) for x, y in zip(*padded, strict=True))


def _pool(n: _Narrowing, node: Node) -> Node:
    x = n.view(node.inputs[0])
    return replace(node, inputs=(x,), shape=(1, x.shape[1], *node.shape[2:]))


def _token_mean(n: _Narrowing, node: Node) -> Node:
    x = n.view(node.inputs[0])
    return replace(node, inputs=(x,), shape=(x.shape[0], 1, x.shape[2]))


def _cat(n: _Narrowing, node: Node) -> Node:
    views = tuple(n.view(view) for view in node.inputs)
    dim = node.attrs["dim"]
    others = {(*v.shape[:dim], *v.shape[dim + 1 :]) for v in views}
    if len(others) != 1:
        raise CannotNarrow(node.name)
    total = sum(view.shape[dim] for view in views)
    shape = (*views[0].shape[:dim], total, *views[0].shape[dim + 1 :])
    return replace(node, inputs=views, shape=shape)


def _matmul(n: _Narrowing, node: Node) -> Node:
    a, b = (n.view(view) for view in node.inputs)
    columns = b.shape[-2 if node.attrs["transpose_b"] else -1]
    return replace(node, inputs=(a, b), shape=(*a.shape[:-1], columns))


_NODES: dict[str, Callable[[_Narrowing, Node], Node]] = {
    "conv": _conv,
    "linear": _linear,
    "batch_norm": _same,
    "layer_norm": _layer_norm,
    "pointwise": _pointwise,
    "pool": _pool,
    "token_mean": _token_mean,
    "cat": _cat,
    "matmul": _matmul,
    "softmax": _same,
}


def _permute(step: ViewStep, before: Shape, now: Shape) -> Shape:
    return tuple(now[dim] for dim in step.params)


def _select(step: ViewStep, before: Shape, now: Shape) -> Shape:
    dim = step.params[0]
    _unchanged(before[dim], now[dim], step)
    return (*now[:dim], *now[dim + 1 :])


def _slice(step: ViewStep, before: Shape, now: Shape) -> Shape:
    dim = step.params[0]
    _unchanged(before[dim], now[dim], step)
    return (*now[:dim], step.shape[dim], *now[dim + 1 :])


def _pad(step: ViewStep, before: Shape, now: Shape) -> Shape:
    shape = []
    for full, old, new in zip(step.shape, before, now, strict=True):
        if full != old:
            _unchanged(old, new, step)
        shape.append(full if full != old else new)
    return tuple(shape)


def _expand(step: ViewStep, before: Shape, now: Shape) -> Shape:
    lead = len(step.shape) - len(before)
    own = zip(step.shape[lead:], before, now, strict=True)
    return (*step.shape[:lead], *(new if full == old else full for full, old, new in own))


def _reshape(step: ViewStep, before: Shape, now: Shape) -> Shape:
    """Match runs of axes with equal products: one that is only renamed or merged can narrow."""
    shape: list[int] = []
    for old, new in aligned_axes(before, step.shape):
        was, is_now = ([s[axis] for axis in old] for s in (before, now))
        wanted = [step.shape[axis] for axis in new]
        if was == is_now:
            shape += wanted
            continue
        wide = [i for i, extent in enumerate(wanted) if extent != 1]
        if len(wide) != 1:
            raise CannotNarrow("reshape")
        wanted[wide[0]] = math.prod(is_now)
        shape += wanted
    return tuple(shape)


def aligned_axes(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """Split the axes of two shapes of equal size into the shortest runs of equal products."""
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        old, new = [], []
        left = right = 1
        if i < len(before):
            old.append(i)
            left, i = before[i], i + 1
        if j < len(after):
            new.append(j)
            right, j = after[j], j + 1
        while left != right:
            if left < right:
                old.append(i)
                left, i = left * before[i], i + 1
            else:
                new.append(j)
                right, j = right * after[j], j + 1
        runs.append((old, new))
    return runs


def _unchanged(before: int, now: int, step: ViewStep) -> None:
    if before != now:
        raise CannotNarrow(step.op)


_STEPS: dict[str, Callable[[ViewStep, Shape, Shape], Shape]] = {
    "permute": _permute,
    "select": _select,
    "slice": _slice,
    "pad": _pad,
    "expand": _expand,
    "reshape": _reshape,
}
