"""Program to program: batch norm into the layer before it, pointwise chains into their producer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from host.lower.program import Node, Program, Step, View

NORM_SCALE = "norm_scale:"
NORM_SHIFT = "norm_shift:"
_FUSABLE = {"conv", "linear", "matmul", "pointwise"}
_TENSOR_STEPS = {"add", "mul", "sub", "div"}
_COMMUTATIVE = {"add", "mul"}


def fuse(program: Program) -> Program:
    """Run all passes, in order."""
    for step in PASSES:
        program = step(program)
    return program


def drop_unread(program: Program) -> Program:
    """Leave out the nodes that the output does not depend on."""
    read, kept = {program.output.tensor}, []
    for node in reversed(program.nodes):
        if node.name in read:
            read.update(view.tensor for view in node.inputs)
            kept.append(node)
    return replace(program, nodes=tuple(reversed(kept)))


def fold_batch_norm(program: Program) -> Program:
    """Give a layer the batch norm that alone reads it; turn the others into pointwise nodes."""
    uses = count_uses(program)
    made: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for node in program.nodes:
        node = _rename(node, renamed)
        if node.op == "batch_norm":
            source = made.get(node.inputs[0].tensor)
            plain = source and not node.inputs[0].steps and uses[source.name] == 1
            if source and plain and source.op in ("conv", "linear") and not source.norm:
                made[source.name] = replace(source, norm=node.norm)
                renamed[node.name] = source.name
                continue
            node = _as_affine(node)
        made[node.name] = node
    output = _rename_view(program.output, renamed)
    return replace(program, nodes=tuple(made.values()), output=output)


def fuse_pointwise(program: Program) -> Program:
    """Append pointwise nodes to the producer that they alone read."""
    uses = count_uses(program)
    made: dict[str, Node] = {}
    for node in program.nodes:
        node = _producer_first(node, made, uses)
        source = made.get(node.inputs[0].tensor)
        if node.op == "pointwise" and source and _fits(node.inputs[0], source, uses):
            del made[source.name]
            node = _append(source, node)
        made[node.name] = node
    return replace(program, nodes=tuple(made.values()))


PASSES: tuple[Callable[[Program], Program], ...] = (drop_unread, fold_batch_norm, fuse_pointwise)


def count_uses(program: Program) -> Counter[str]:
    """Count the readers of every tensor, the program's output included."""
    uses = Counter(view.tensor for node in program.nodes for view in node.inputs)
    uses[program.output.tensor] += 1
    return uses


def shift_steps(steps: Iterable[Step], shift: int) -> tuple[Step, ...]:
    """Renumber the tensor operands of pointwise steps."""
    return tuple((s[0], s[1] + shift) if s[0] in _TENSOR_STEPS else s for s in steps)


def _fits(view: View, source: Node, uses: Counter[str]) -> bool:
    return not view.steps and uses[source.name] == 1 and source.op in _FUSABLE


def _producer_first(node: Node, made: dict[str, Node], uses: Counter[str]) -> Node:
    """Swap the operands of a sum whose second one alone can take it as an epilogue."""
    if node.op != "pointwise" or len(node.inputs) != 2 or node.post[0][0] not in _COMMUTATIVE:
        return node
    first, second = (made.get(view.tensor) for view in node.inputs)
    first_fits = first is not None and _fits(node.inputs[0], first, uses)
    if not first_fits and second is not None and _fits(node.inputs[1], second, uses):
        return replace(node, inputs=node.inputs[::-1])
    return node


def _append(source: Node, node: Node) -> Node:
    shift = len(source.inputs) - 1
    return replace(
        source,
        name=node.name,
        shape=node.shape,
        inputs=(*source.inputs, *node.inputs[1:]),
        post=(*source.post, *shift_steps(node.post, shift)),
    )


def _as_affine(node: Node) -> Node:
    channels = node.shape[1]
    lifted = (1, channels, *(1 for _ in node.shape[2:]))
    terms = tuple(
        View(prefix + node.norm, (channels,))
        .then("reshape", (), lifted)
        .then("expand", (), node.shape)
        for prefix in (NORM_SCALE, NORM_SHIFT)
    )
    post = (("mul", 1), ("add", 2))
    return replace(node, op="pointwise", inputs=(*node.inputs, *terms), norm="", post=post)


def _rename(node: Node, renamed: dict[str, str]) -> Node:
    return replace(node, inputs=tuple(_rename_view(v, renamed) for v in node.inputs))


def _rename_view(view: View, renamed: dict[str, str]) -> View:
    return replace(view, tensor=renamed.get(view.tensor, view.tensor))
