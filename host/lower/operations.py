"""How each operation of a torch.export graph becomes a node or a view; one handler each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import fx

from host.errors import UnsupportedLayer
from host.lower.program import PARAM, Shape, View

if TYPE_CHECKING:
    from host.lower.importer import Importer

Handler = Callable[["Importer", fx.Node], Any]
HANDLERS: dict[str, Handler] = {}


def _handles(*targets: str) -> Callable[[Handler], Handler]:
    def add(handler: Handler) -> Handler:
        for target in targets:
            HANDLERS[target] = handler
        return handler

    return add


def broadcast(view: View, shape: Shape) -> View:
    """Expand a view to a shape by numpy's rules."""
    return view if view.shape == shape else view.then("expand", (), shape)


def _args(node: fx.Node) -> tuple[Any, ...]:
    return node.args


def _arg(node: fx.Node, position: int, name: str, default: Any) -> Any:
    if len(_args(node)) > position:
        return _args(node)[position]
    return node.kwargs.get(name, default)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    values = [int(v) for v in value]
    return (values[0], values[-1])


@_handles(
    "alias", "dropout", "contiguous", "clone", "detach", "detach_copy", "feature_dropout", "to"
)
def _identity(imp: Importer, node: fx.Node) -> View:
    return imp.view(_args(node)[0])


@_handles("conv2d", "convolution")
def _conv(imp: Importer, node: fx.Node) -> View:
    decomposed = "convolution" in str(node.target)
    if decomposed and (_args(node)[6] or len(imp.view(_args(node)[0]).shape) != 4):
        raise UnsupportedLayer("convolutions but plain ones of pictures have no kernel")
    x, weight = _args(node)[0], _args(node)[1]
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
        "groups": int(_arg(node, 8 if decomposed else 6, "groups", 1)),
    }
    return imp.add(node, "conv", (imp.view(x),), attrs=attrs, layer=imp.owner(weight))


@_handles("linear")
def _linear(imp: Importer, node: fx.Node) -> View:
    return imp.add(node, "linear", (imp.view(_args(node)[0]),), layer=imp.owner(_args(node)[1]))


@_handles("addmm")
def _addmm(imp: Importer, node: fx.Node) -> View:
    """A linear layer as decompositions write it: bias + x @ weight.t()."""
    return imp.add(node, "linear", (imp.view(_args(node)[1]),), layer=imp.owner(_args(node)[2]))


@_handles("batch_norm")
def _batch_norm(imp: Importer, node: fx.Node) -> View:
    view = imp.view(_args(node)[0])
    return imp.add(node, "batch_norm", (view,), norm=imp.owner(_args(node)[3]))


@_handles("_native_batch_norm_legit_no_training")
def _native_batch_norm(imp: Importer, node: fx.Node) -> tuple[View, ...]:
    """The decomposed one has three results, of which inference reads the first."""
    view, norm = imp.view(_args(node)[0]), imp.owner(_args(node)[3])
    return (imp.add(node, "batch_norm", (view,), norm=norm, shape=view.shape),) * 3


@_handles("layer_norm")
def _layer_norm(imp: Importer, node: fx.Node) -> View:
    if len(_args(node)[1]) != 1:
        raise UnsupportedLayer("layer_norm over more than the last axis has no kernel")
    inputs = [imp.view(_args(node)[0])]
    inputs += [imp.view(a) for a in (_arg(node, 2, "w", None), _arg(node, 3, "b", None)) if a]
    eps = float(_arg(node, 4, "eps", 1e-5))
    return imp.add(node, "layer_norm", tuple(inputs), attrs={"eps": eps}, primary=len(inputs))


@_handles("softmax")
def _softmax(imp: Importer, node: fx.Node) -> View:
    view = imp.view(_args(node)[0])
    dim = int(_arg(node, 1, "dim", -1)) % len(view.shape)
    if dim != len(view.shape) - 1:
        raise UnsupportedLayer("softmax over another axis than the last has no kernel")
    return imp.add(node, "softmax", (view,))


@_handles("matmul", "bmm")
def _matmul(imp: Importer, node: fx.Node) -> View:
    a, b = imp.view(_args(node)[0]), imp.view(_args(node)[1])
    return imp.add(node, "matmul", (a, b), primary=2, attrs={"transpose_b": False})


@_handles("scaled_dot_product_attention")
def _attention(imp: Importer, node: fx.Node) -> View:
    q, k, v = (imp.view(a) for a in _args(node)[:3])
    mask, causal = _arg(node, 3, "attn_mask", None), _arg(node, 5, "is_causal", False)
    if mask is not None or causal:
        raise UnsupportedLayer("attention with a mask has no kernel")
    scale = _arg(node, 6, "scale", None) or q.shape[-1] ** -0.5
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
def _unary(imp: Importer, node: fx.Node) -> View:
    name = str(node.target).removeprefix("aten.").partition(".")[0].removesuffix("_")
    return imp.pointwise(node, (_UNARY[name],), imp.view(_args(node)[0]))


@_handles("zeros_like")
def _zeros(imp: Importer, node: fx.Node) -> View:
    return imp.pointwise(node, (("mul_scalar", 0.0),), imp.view(_args(node)[0]))


@_handles("gelu")
def _gelu(imp: Importer, node: fx.Node) -> View:
    approximate = node.kwargs.get("approximate", "none")
    step = "gelu" if approximate == "none" else "gelu_tanh"
    return imp.pointwise(node, ((step,),), imp.view(_args(node)[0]))


@_handles("hardtanh", "clamp")
def _clip(imp: Importer, node: fx.Node) -> View:
    low, high = _arg(node, 1, "min_val", -1.0), _arg(node, 2, "max_val", 1.0)
    return imp.pointwise(node, (("clip", float(low), float(high)),), imp.view(_args(node)[0]))


_SCALAR: dict[str, tuple[str, Callable[[float], float]]] = {
    "add": ("add_scalar", lambda b: b),
    "sub": ("add_scalar", lambda b: -b),
    "mul": ("mul_scalar", lambda b: b),
    "div": ("mul_scalar", lambda b: 1.0 / b if b else math.copysign(math.inf, b)),
}


@_handles("add", "mul", "sub", "div")
def _binary(imp: Importer, node: fx.Node) -> View:
    name = str(node.target).removeprefix("aten.").partition(".")[0].removesuffix("_")
    a, b = _args(node)[0], _args(node)[1]
    if not isinstance(b, fx.Node):
        step, value = _SCALAR[name]
        return imp.pointwise(node, ((step, value(float(b))),), imp.view(a))
    left, right = imp.view(a), imp.view(b)
    if name in ("add", "mul") and left.tensor.startswith(PARAM):
        left, right = right, left
    return imp.pointwise(node, ((name, 1),), left, right)


@_handles("max_pool2d")
def _max_pool(imp: Importer, node: fx.Node) -> View:
    return _pool(imp, node, "max")


@_handles("avg_pool2d")
def _avg_pool(imp: Importer, node: fx.Node) -> View:
    return _pool(imp, node, "mean")


def _pool(imp: Importer, node: fx.Node, reduce: str) -> View:
    kernel = _pair(_args(node)[1])
    stride = _pair(_arg(node, 2, "stride", []) or kernel)
    attrs = {
        "reduce": reduce,
        "kernel": kernel,
        "stride": stride,
        "padding": _pair(_arg(node, 3, "padding", 0)),
    }
    return imp.add(node, "pool", (imp.view(_args(node)[0]),), attrs=attrs)


@_handles("adaptive_avg_pool2d")
def _adaptive_pool(imp: Importer, node: fx.Node) -> View:
    view = imp.view(_args(node)[0])
    height, width = view.shape[2:]
    out = _pair(_args(node)[1])
    if height % out[0] or width % out[1]:
        raise UnsupportedLayer(f"adaptive pooling from {height}x{width} to {out} is uneven")
    kernel = (height // out[0], width // out[1])
    attrs = {"reduce": "mean", "kernel": kernel, "stride": kernel, "padding": (0, 0)}
    return imp.add(node, "pool", (view,), attrs=attrs)


@_handles("mean")
def _mean(imp: Importer, node: fx.Node) -> View:
    view = imp.view(_args(node)[0])
    rank = len(view.shape)
    dims = tuple(sorted(int(d) % rank for d in _args(node)[1]))
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
def _cat(imp: Importer, node: fx.Node) -> View:
    views = tuple(imp.view(a) for a in _args(node)[0])
    dim = int(_arg(node, 1, "dim", 0)) % len(views[0].shape)
    return imp.add(node, "cat", views, attrs={"dim": dim}, primary=len(views))


@_handles("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "_unsafe_view")
def _reshape(imp: Importer, node: fx.Node) -> View:
    return imp.view(_args(node)[0]).then("reshape", (), tuple(node.meta["val"].shape))


@_handles("permute", "transpose", "t")
def _permute(imp: Importer, node: fx.Node) -> View:
    view = imp.view(_args(node)[0])
    rank = len(view.shape)
    if "permute" in str(node.target):
        dims = [int(d) % rank for d in _args(node)[1]]
    else:
        a, b = (int(_arg(node, i, f"dim{i - 1}", i - 1)) % rank for i in (1, 2))
        dims = list(range(rank))
        dims[a], dims[b] = dims[b], dims[a]
    return view.then("permute", tuple(dims), tuple(node.meta["val"].shape))


@_handles("expand", "expand_as")
def _expand(imp: Importer, node: fx.Node) -> View:
    return broadcast(imp.view(_args(node)[0]), tuple(node.meta["val"].shape))


@_handles("slice")
def _slice(imp: Importer, node: fx.Node) -> View:
    view = imp.view(_args(node)[0])
    dim = int(_arg(node, 1, "dim", 0)) % len(view.shape)
    start = int(_arg(node, 2, "start", 0) or 0)
    start = max(start + view.shape[dim], 0) if start < 0 else start
    step = int(_arg(node, 4, "step", 1))
    shape = tuple(node.meta["val"].shape)
    return view if shape == view.shape else view.then("slice", (dim, start, step), shape)


@_handles("select")
def _select(imp: Importer, node: fx.Node) -> View:
    view = imp.view(_args(node)[0])
    dim = int(_args(node)[1]) % len(view.shape)
    index = int(_args(node)[2]) % view.shape[dim]
    return view.then("select", (dim, index), tuple(node.meta["val"].shape))


@_handles("unbind", "chunk", "split", "split_with_sizes")
def _unbind(imp: Importer, node: fx.Node) -> tuple[View, ...]:
    view = imp.view(_args(node)[0])
    shapes = [tuple(v.shape) for v in node.meta["val"]]
    if "unbind" in str(node.target):
        dim = int(_arg(node, 1, "dim", 0)) % len(view.shape)
        return tuple(view.then("select", (dim, i), s) for i, s in enumerate(shapes))
    dim = int(_arg(node, 2, "dim", 0)) % len(view.shape)
    starts = [sum(s[dim] for s in shapes[:i]) for i in range(len(shapes))]
    return tuple(view.then("slice", (dim, a, 1), s) for a, s in zip(starts, shapes, strict=True))


@_handles("getitem")
def _getitem(imp: Importer, node: fx.Node) -> View:
    view = imp.env[_args(node)[0]][_args(node)[1]]
    assert isinstance(view, View)
    return view


@_handles("pad", "constant_pad_nd")
def _pad(imp: Importer, node: fx.Node) -> View:
    view = imp.view(_args(node)[0])
    if float(_arg(node, 3, "value", 0) or 0) != 0 or _arg(node, 2, "mode", "constant") not in (
        "constant",
        0,
    ):
        raise UnsupportedLayer("padding with anything but zeros has no kernel")
    amounts = [int(a) for a in _args(node)[1]]
    before = [0] * len(view.shape)
    for i in range(len(amounts) // 2):
        before[-1 - i] = amounts[2 * i]
    return view.then("pad", tuple(before), tuple(node.meta["val"].shape))
