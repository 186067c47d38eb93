"""A network as a list of operations on named tensors: structure only, no weights, no TVM.

Shapes are logical (NCHW for pictures). Operations that only rename elements (permute, reshape,
slice, pad, ...) are not nodes: they are steps of the `View` through which a node reads a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Shape = tuple[int, ...]
# Prefix of tensors that are parameters or buffers of the module.
PARAM = "param:"
# One pointwise step: its name and parameters, such as ("relu",), ("add", 1) or ("clip", 0.0, 6.0).
Step = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ViewStep:
    """One renaming of elements: `op` with `params`, giving a tensor of `shape`."""

    op: str
    params: tuple[Any, ...]
    shape: Shape


@dataclass(frozen=True, slots=True)
class View:
    """A tensor as seen through steps; `shape` is that of the last one."""

    tensor: str
    base_shape: Shape
    steps: tuple[ViewStep, ...] = ()

    @property
    def shape(self) -> Shape:
        """Logical shape of what is seen."""
        return self.steps[-1].shape if self.steps else self.base_shape

    def then(self, op: str, params: tuple[Any, ...], shape: Shape) -> View:
        """Add a step."""
        return replace(self, steps=(*self.steps, ViewStep(op, params, shape)))


@dataclass(frozen=True, slots=True)
class Node:
    """One operation that computes a tensor of its own name.

    `layer` names the network layer whose weights it uses; `norm` the batch norm folded into it;
    `post` is the chain of pointwise steps on its result, whose tensor operands are
    `inputs[primary:]`.
    """

    name: str
    op: str
    inputs: tuple[View, ...]
    shape: Shape
    attrs: Mapping[str, Any] = field(default_factory=dict)
    layer: str = ""
    norm: str = ""
    post: tuple[Step, ...] = ()
    primary: int = 1


@dataclass(frozen=True, slots=True)
class Program:
    """Nodes in order of execution, from tensor `input` to `output`."""

    input: str
    input_shape: Shape
    nodes: tuple[Node, ...]
    output: View
