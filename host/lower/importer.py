"""A torch module as a Program, through torch.export; never keeps a weight."""

from __future__ import annotations

import copy
import io
import logging
import operator
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import fx, nn

from host.errors import UnsupportedLayer
from host.lower.operations import HANDLERS, Handler, broadcast
from host.lower.program import PARAM, Node, Program, Shape, Step, View


def import_module(module: nn.Module, input_shape: tuple[int, int, int]) -> Program:
    """Trace a module at batch size one; raises UnsupportedLayer for an unknown operation."""
    plain = plain_copy(module).eval()
    sample = torch.zeros(1, *input_shape)
    try:
        with torch.no_grad(), quiet():
            exported = torch.export.export(plain, (sample,), strict=False)
    except (torch._dynamo.exc.UserError, RuntimeError) as e:
        why = str(e).strip().partition("\n")[0]
        raise UnsupportedLayer(f"the network cannot be traced by torch.export: {why}") from e
    return Importer(exported).run()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch from printing pages about what becomes one sentence here."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("torch")]
    loud = [log for name in names if not (log := logging.getLogger(name)).disabled]
    page = io.StringIO()
    try:
        for log in loud:
            log.disabled = True
        with warnings.catch_warnings(), redirect_stdout(page), redirect_stderr(page):
            warnings.simplefilter("ignore")
            yield
    finally:
        for log in loud:
            log.disabled = False


def plain_copy(module: nn.Module) -> nn.Module:
    """Copy a module with quantized layers replaced by ordinary ones of the same shape."""
    clone = copy.deepcopy(module)
    for name, child in list(clone.named_modules()):
        if type(child) not in (nn.Conv2d, nn.Linear) and isinstance(child, (nn.Conv2d, nn.Linear)):
            parent, _, attribute = name.rpartition(".")
            setattr(clone.get_submodule(parent), attribute, _plain(child))
    return clone


def _plain(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, layer.out_features, bias)
    return nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        layer.groups,
        bias,
    )


class Importer:
    """Walks one exported graph; `env` maps fx nodes to views (or tuples of views).

    A lenient one makes a node of every operation that it does not know: it cannot be lowered, but
    its tensors can be counted.
    """

    def __init__(self, exported: torch.export.ExportedProgram, *, lenient: bool = False) -> None:
        self.exported = exported
        self.lenient = lenient
        self.env: dict[fx.Node, Any] = {}
        self.nodes: list[Node] = []

    def run(self) -> Program:
        signature = self.exported.graph_signature
        tensors = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        source = ""
        shape: Shape = ()
        for node in self.exported.graph.nodes:
            if node.op == "placeholder":
                if node.name in tensors:
                    self.env[node] = self._param(tensors[node.name], node)
                else:
                    source, shape = node.name, tuple(node.meta["val"].shape)
                    self.env[node] = View(source, shape)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                output = self.env[node.args[0][0]]
        return Program(source, shape, tuple(self.nodes), output)

    def view(self, node: Any) -> View:
        view = self.env[node]
        assert isinstance(view, View)
        return view

    def path(self, node: Any) -> str:
        """Return the module path of a parameter node."""
        return self.view(node).tensor.removeprefix(PARAM)

    def owner(self, node: Any) -> str:
        """Return the module that holds a parameter node."""
        return self.path(node).rpartition(".")[0]

    def add(self, node: fx.Node, op: str, inputs: tuple[View, ...], **kwargs: Any) -> View:
        shape = kwargs.pop("shape", None) or tuple(node.meta["val"].shape)
        made = Node(f"t{len(self.nodes)}_{node.name}", op, inputs, shape, **kwargs)
        self.nodes.append(made)
        return View(made.name, shape)

    def pointwise(self, node: fx.Node, steps: tuple[Step, ...], *inputs: View) -> View:
        shape = tuple(node.meta["val"].shape)
        views = tuple(broadcast(view, shape) for view in inputs)
        return self.add(node, "pointwise", views, post=steps)

    def _param(self, path: str, node: fx.Node) -> View:
        shape = tuple(node.meta["val"].shape)
        return View(PARAM + path, shape)

    def _call(self, node: fx.Node) -> None:
        target = node.target
        name = "getitem" if target is operator.getitem else str(target).removeprefix("aten.")
        base = name.partition(".")[0]
        self.env[node] = self._handler(base, node)(self, node)
        if base.endswith("_") and node.args and isinstance(node.args[0], fx.Node):
            self.env[node.args[0]] = self.env[node]  # in place: later readers see the new value

    def _handler(self, base: str, node: fx.Node) -> Handler:
        handler = HANDLERS.get(base.removesuffix("_"))
        if handler is not None:
            return handler
        if self.lenient and isinstance(node.meta.get("val"), torch.Tensor):
            return _unknown
        raise UnsupportedLayer(
            f"operation {base}{_where(node)} has no kernel: replace it in the network"
        )


def _unknown(importer: Importer, node: fx.Node) -> View:
    read = [importer.env.get(argument) for argument in node.all_input_nodes]
    views = tuple(view for view in read if isinstance(view, View))
    return importer.add(node, "unknown", views, primary=len(views))


def _where(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(stack.values()))[0] if stack else ""
    return f" (in {path})" if path else ""
