"""A torch module as a Program, through torch.export; never keeps a weight."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from host.errors import UnsupportedLayer
from host.lower.program import Node, Program, Shape, Step, View

PARAM = "param:"


def import_module(module: nn.Module, input_shape: tuple[int, int, int]) -> Program:
    """Trace a module at batch size one; raises UnsupportedLayer for an unknown operation."""
    plain = plain_copy(module).eval()
    sample = torch.zeros(1, *input_shape)
    try:
        with torch.no_grad():
            exported = torch.export.export(plain, (sample,), strict=False)
    except (torch._dynamo.exc.UserError, RuntimeError) as e:
        raise UnsupportedLayer(f"the network cannot be traced by torch.export: {e}") from e
    return _Importer(exported).run()


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


Handler = Callable[["_Importer", fx.Node], Any]
_HANDLERS: dict[str, Handler] = {}


def _handles(*targets: str) -> Callable[[Handler], Handler]:
    def add(handler: Handler) -> Handler:
        for target in targets:
            _HANDLERS[target] = handler
        return handler

    return add


class _Importer:
    """Walks one exported graph; `env` maps fx nodes to views (or tuples of views)."""

    def __init__(self, exported: torch.export.ExportedProgram) -> None:
        self.exported = exported
        self.env: dict[fx.Node, Any] = {}
        self.nodes: list[Node] = []
        self.params: dict[str, Shape] = {}

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
        return Program(source, shape, tuple(self.nodes), output, self.params)

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
        self.params[path] = shape
        return View(PARAM + path, shape)

    def _call(self, node: fx.Node) -> None:
        target = node.target
        name = "getitem" if target is operator.getitem else str(target).removeprefix("aten.")
        base = name.partition(".")[0]
        handler = _HANDLERS.get(base.removesuffix("_"))
        if handler is None:
            where = _where(node)
            raise UnsupportedLayer(
                f"operation {base}{where} has no kernel; known: {', '.join(sorted(_HANDLERS))}"
            )
        self.env[node] = handler(self, node)
        if base.endswith("_") and node.args and isinstance(node.args[0], fx.Node):
            self.env[node.args[0]] = self.env[node]  # in place: later readers see the new value


def _where(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(stack.values()))[0] if stack else ""
    return f" (in {path})" if path else ""


def broadcast(view: View, shape: Shape) -> View:
    """Expand a view to a shape by numpy's rules."""
    return view if view.shape == shape else view.then("expand", (), shape)


def _arg(node: fx.Node, position: int, name: str, default: Any) -> Any:
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    values = [int(v) for v in value]
    return (values[0], values[-1])


@_handles("alias", "dropout", "contiguous", "clone", "detach", "detach_copy", "feature_dropout", "to")
def _identity(imp: _Importer, node: fx.Node) -> View:
    return imp.view(node.args[0])


@_handles("conv2d")
def _conv(imp: _Importer, node: fx.Node) -> View:
    x, weight = node.args[0], node.args[1]
    kernel = imp.view(weight).shape[2:]
    padding = _arg(node, 4, "padding", 0)
    if isinstance(padding, str):
        padding = [k // 2 if padding == "same" else 0 for k in kernel]
    if _pair(_arg(node, 5, "dilation", 1)) != (1, 1):
        raise UnsupportedLayer(f"{imp.owner(weight)}: dilated convolutions have no kernel")
    attrs = {
        "kernel": kernel,
        "stride": _pair(_arg(node, 3, "stride", 1)),
        "padding": _pair(padding),
        "groups": int(_arg(node, 6, "groups", 1)),
    }
    return imp.add(node, "conv", (imp.view(x),), attrs=attrs, layer=imp.owner(weight))


@_handles("linear")
def _linear(imp: _Importer, node: fx.Node) -> View:
    return imp.add(node, "linear", (imp.view(node.args[0]),), layer=imp.owner(node.args[1]))


@_handles("batch_norm")
def _batch_norm(imp: _Importer, node: fx.Node) -> View:
    view = imp.view(node.args[0])
    return imp.add(node, "batch_norm", (view,), norm=imp.owner(node.args[3]))


@_handles("layer_norm")
def _layer_norm(imp: _Importer, node: fx.Node) -> View:
    if len(node.args[1]) != 1:  # type: ignore[arg-type]
        raise UnsupportedLayer("layer_norm over more than the last axis has no kernel")
    inputs = [imp.view(node.args[0])]
    inputs += [imp.view(a) for a in (_arg(node, 2, "w", None), _arg(node, 3, "b", None)) if a]
    eps = float(_arg(node, 4, "eps", 1e-5))
    return imp.add(node, "layer_norm", tuple(inputs), attrs={"eps": eps}, primary=len(inputs))


@_handles("softmax")
def _softmax(imp: _Importer, node: fx.Node) -> View:
    view = imp.view(node.args[0])
    dim = int(_arg(node, 1, "dim", -1)) % len(view.shape)
    if dim != len(view.shape) - 1:
        raise UnsupportedLayer("softmax over another axis than the last has no kernel")
    return imp.add(node, "softmax", (view,))


@_handles("matmul", "bmm")
def _matmul(imp: _Importer, node: fx.Node) -> View:
    a, b = imp.view(node.args[0]), imp.view(node.args[1])
    return imp.add(node, "matmul", (a, b), primary=2, attrs={"transpose_b": False})


@_handles("scaled_dot_product_attention")
def _attention(imp: _Importer, node: fx.Node) -> View:
    q, k, v = (imp.view(a) for a in node.args[:3])
    mask, causal = _arg(node, 3, "attn_mask", None), _arg(node, 5, "is_causal", False)
    if mask is not None or causal:
        raise UnsupportedLayer("attention with a mask has no kernel")
    scale = node.kwargs.get("scale") or q.shape[-1] ** -0.5
    shape = (*q.shape[:-1], k.shape[-2])
    scores = imp.add(
        node,
        "matmul",
        (q, k),
        shape=shape,
        primary=2,
        attrs={"transpose_b": True},
        post=(("mul_scalar", float(scale)),),
    )
    weights = imp.add(node, "softmax", (scores,), shape=shape)
    return imp.add(node, "matmul", (weights, v), primary=2, attrs={"transpose_b": False})


_UNARY = {
    "relu": ("relu",),
    "relu6": ("clip", 0.0, 6.0),
    "silu": ("silu",),
    "sigmoid": ("sigmoid",),
    "hardswish": ("hardswish",),
    "hardsigmoid": ("hardsigmoid",),
    "tanh": ("tanh",),
    "exp": ("exp",),
    "neg": ("mul_scalar", -1.0),
}


@_handles(*_UNARY)
def _unary(imp: _Importer, node: fx.Node) -> View:
    name = str(node.target).removeprefix("aten.").partition(".")[0].removesuffix("_")
    return imp.pointwise(node, (_UNARY[name],), imp.view(node.args[0]))


@_handles("gelu")
def _gelu(imp: _Importer, node: fx.Node) -> View:
    approximate = node.kwargs.get("approximate", "none")
    step = "gelu" if approximate == "none" else "gelu_tanh"
    return imp.pointwise(node, ((step,),), imp.view(node.args[0]))


@_handles("hardtanh", "clamp")
def _clip(imp: _Importer, node: fx.Node) -> View:
    low, high = _arg(node, 1, "min_val", -1.0), _arg(node, 2, "max_val", 1.0)
    return imp.pointwise(node, (("clip", float(low), float(high)),), imp.view(node.args[0]))


@_handles("add", "mul", "sub", "div")
def _binary(imp: _Importer, node: fx.Node) -> View:
    name = str(node.target).removeprefix("aten.").partition(".")[0].removesuffix("_")
    a, b = node.args[0], node.args[1]
    if not isinstance(b, fx.Node):
        value = {"sub": -float(b), "div": 1.0 / float(b)}.get(name, float(b))  # type: ignore[arg-type]
        step = "add_scalar" if name in ("add", "sub") else "mul_scalar"
        return imp.pointwise(node, ((step, value),), imp.view(a))
    left, right = imp.view(a), imp.view(b)
    if name in ("add", "mul") and left.tensor.startswith(PARAM):
        left, right = right, left
    return imp.pointwise(node, ((name, 1),), left, right)


@_handles("max_pool2d")
def _max_pool(imp: _Importer, node: fx.Node) -> View:
    return _pool(imp, node, "max")


@_handles("avg_pool2d")
def _avg_pool(imp: _Importer, node: fx.Node) -> View:
    return _pool(imp, node, "mean")


def _pool(imp: _Importer, node: fx.Node, reduce: str) -> View:
    kernel = _pair(node.args[1])
    stride = _pair(_arg(node, 2, "stride", []) or kernel)
    attrs = {
        "reduce": reduce,
        "kernel": kernel,
        "stride": stride,
        "padding": _pair(_arg(node, 3, "padding", 0)),
    }
    return imp.add(node, "pool", (imp.view(node.args[0]),), attrs=attrs)


@_handles("adaptive_avg_pool2d")
def _adaptive_pool(imp: _Importer, node: fx.Node) -> View:
    view = imp.view(node.args[0])
    height, width = view.shape[2:]
    out = _pair(node.args[1])
    if height % out[0] or width % out[1]:
        raise UnsupportedLayer(f"adaptive pooling from {height}x{width} to {out} is uneven")
    kernel = (height // out[0], width // out[1])
    attrs = {"reduce": "mean", "kernel": kernel, "stride": kernel, "padding": (0, 0)}
    return imp.add(node, "pool", (view,), attrs=attrs)


@_handles("mean")
def _mean(imp: _Importer, node: fx.Node) -> View:
    view = imp.view(node.args[0])
    rank = len(view.shape)
    dims = tuple(sorted(int(d) % rank for d in node.args[1]))  # type: ignore[union-attr]
    keep = bool(_arg(node, 2, "keepdim", False))
    if rank == 4 and dims == (2, 3):
        kernel = view.shape[2:]
        attrs = {"reduce": "mean", "kernel": kernel, "stride": kernel, "padding": (0, 0)}
        pooled = imp.add(node, "pool", (view,), attrs=attrs, shape=(*view.shape[:2], 1, 1))
        return pooled if keep else pooled.then("reshape", (), view.shape[:2])
    if rank == 3 and dims == (1,):
        mean = imp.add(node, "token_mean", (view,), shape=(view.shape[0], 1, view.shape[2]))
        return mean if keep else mean.then("reshape", (), (view.shape[0], view.shape[2]))
    raise UnsupportedLayer(f"mean over axes {dims} of a rank-{rank} tensor has no kernel")


@_handles("cat")
def _cat(imp: _Importer, node: fx.Node) -> View:
    views = tuple(imp.view(a) for a in node.args[0])  # type: ignore[union-attr]
    dim = int(_arg(node, 1, "dim", 0)) % len(views[0].shape)
    return imp.add(node, "cat", views, attrs={"dim": dim}, primary=len(views))


@_handles("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "_unsafe_view")
def _reshape(imp: _Importer, node: fx.Node) -> View:
    return imp.view(node.args[0]).then("reshape", (), tuple(node.meta["val"].shape))


@_handles("permute", "transpose", "t")
def _permute(imp: _Importer, node: fx.Node) -> View:
    view = imp.view(node.args[0])
    rank = len(view.shape)
    if "permute" in str(node.target):
        dims = [int(d) % rank for d in node.args[1]]  # type: ignore[union-attr]
    else:
        a, b = (int(_arg(node, i, f"dim{i - 1}", i - 1)) % rank for i in (1, 2))
        dims = list(range(rank))
        dims[a], dims[b] = dims[b], dims[a]
    return view.then("permute", tuple(dims), tuple(node.meta["val"].shape))


@_handles("expand", "expand_as")
def _expand(imp: _Importer, node: fx.Node) -> View:
    return broadcast(imp.view(node.args[0]), tuple(node.meta["val"].shape))


@_handles("slice")
def _slice(imp: _Importer, node: fx.Node) -> View:
    view = imp.view(node.args[0])
    dim = int(_arg(node, 1, "dim", 0)) % len(view.shape)
    start = int(_arg(node, 2, "start", 0) or 0)
    start = max(start + view.shape[dim], 0) if start < 0 else start
    step = int(_arg(node, 4, "step", 1))
    shape = tuple(node.meta["val"].shape)
    return view if shape == view.shape else view.then("slice", (dim, start, step), shape)


@_handles("select")
def _select(imp: _Importer, node: fx.Node) -> View:
    view = imp.view(node.args[0])
    dim = int(node.args[1]) % len(view.shape)  # type: ignore[arg-type]
    index = int(node.args[2]) % view.shape[dim]  # type: ignore[arg-type]
    return view.then("select", (dim, index), tuple(node.meta["val"].shape))


@_handles("unbind", "chunk", "split", "split_with_sizes")
def _unbind(imp: _Importer, node: fx.Node) -> tuple[View, ...]:
    view = imp.view(node.args[0])
    shapes = [tuple(v.shape) for v in node.meta["val"]]
    if "unbind" in str(node.target):
        dim = int(_arg(node, 1, "dim", 0)) % len(view.shape)
        return tuple(view.then("select", (dim, i), s) for i, s in enumerate(shapes))
    dim = int(_arg(node, 2, "dim", 0)) % len(view.shape)
    starts = [sum(s[dim] for s in shapes[:i]) for i in range(len(shapes))]
    return tuple(
        view.then("slice", (dim, a, 1), s) for a, s in zip(starts, shapes, strict=True)
    )


@_handles("getitem")
def _getitem(imp: _Importer, node: fx.Node) -> View:
    view = imp.env[node.args[0]][node.args[1]]  # type: ignore[index]
    assert isinstance(view, View)
    return view


@_handles("pad", "constant_pad_nd")
def _pad(imp: _Importer, node: fx.Node) -> View:
    view = imp.view(node.args[0])
    if float(_arg(node, 3, "value", 0) or 0) != 0 or _arg(node, 2, "mode", "constant") not in (
        "constant",
        0,
    ):
        raise UnsupportedLayer("padding with anything but zeros has no kernel")
    amounts = [int(a) for a in node.args[1]]  # type: ignore[union-attr]
    before = [0] * len(view.shape)
    for i in range(len(amounts) // 2):
        before[-1 - i] = amounts[2 * i]
    return view.then("pad", tuple(before), tuple(node.meta["val"].shape))
