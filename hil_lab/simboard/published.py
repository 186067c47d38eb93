"""What runtimes of others take on a board, by tables fitted to their measurements; not our kernels.

A table has a handful of rates. The time of a program is the sum over its operations of

    multiply-accumulates / rate + elements / rate + bytes / bandwidth + call

with what a table does not name costing nothing. `hil-lab bench simulator` fits the tables again and
holds them against measurements that were not used.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files

from host.lower.fuse import drop_unread, fold_batch_norm
from host.lower.program import PARAM, Node, Program

FLOAT_BYTES = 4
# From so many input channels on, tuners found Winograd's algorithm faster for 3 x 3 at stride 1.
WINOGRAD_CHANNELS = 64
ZEROS = "zeros"
# name of a term -> how much of it an operation has: 1e9 MAC, 1e6 elements, 1e9 bytes, 1e6 calls
Terms = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Work:
    """What one operation of a program does, whoever runs it.

    `kinds` are conv, conv1x1, winograd, depthwise, dense, matmul, or the operation's own name: a
    table serves it by the first of them that it names.
    """

    name: str
    kinds: tuple[str, ...]
    macs: int
    elements: int
    weight_bytes: int
    bytes_moved: int


@dataclass(frozen=True)
class Table:
    """The rates of one runtime: 1e9 MAC/s and 1e6 elements/s by kind, 1e9 bytes/s, us a call.

    `cores` are those that worked, as far as the rates tell.
    """

    source: str
    gmacs_per_s: Mapping[str, float]
    melements_per_s: Mapping[str, float] = field(default_factory=dict)
    gbytes_per_s: float = math.inf
    call_us: float = 0.0
    cores: int = 1

    def kind(self, work: Work) -> str:
        """Return as what an operation is served."""
        named = (k for k in work.kinds if k in self.gmacs_per_s or k in self.melements_per_s)
        return next(named, work.kinds[-1])

    def seconds(self, work: Work) -> dict[str, float]:
        """Return the seconds of an operation by what takes them: products, elements ..."""
        kind = self.kind(work)
        products = self.gmacs_per_s.get(kind, math.inf)
        elements = self.melements_per_s.get(kind, math.inf)
        return {
            "products": work.macs / products / 1e9,
            "elements": work.elements / elements / 1e6,
            "memory": work.bytes_moved / self.gbytes_per_s / 1e9,
            "call": self.call_us / 1e6,
        }


def tables() -> dict[str, Table]:
    """Return the shipped tables by name: `networks`, and `kernels` for a single operation."""
    text = files("hil_lab.simboard").joinpath("published.toml").read_text()
    return {name: Table(**table) for name, table in tomllib.loads(text).items()}


def table_of(found: list[Work]) -> Table:
    """Return the table that serves a program.

    Single convolutions were measured by a tuner: the bare kernel, the best of many. Networks were
    measured whole, in a runtime that tunes nothing, where the same convolution takes longer.
    """
    return tables()["kernels" if len(found) == 1 else "networks"]


def works(program: Program) -> list[Work]:
    """Return the operations that a runtime calls: batch norms folded, nothing else fused.

    What is multiplied by zero is a constant and is not computed; operations *on* that constant are
    called all the same: measured networks of NAS-Bench-201 took as long as if they were.
    """
    cut = replace(program, nodes=tuple(map(_cut, program.nodes)))
    nodes = fold_batch_norm(drop_unread(cut)).nodes
    return [_work(node) for node in nodes if node.op != ZEROS]


def _cut(node: Node) -> Node:
    """Return a node that reads nothing where it multiplies by zero."""
    return replace(node, op=ZEROS, inputs=()) if ("mul_scalar", 0.0) in node.post else node


def _work(node: Node) -> Work:
    outputs = math.prod(node.shape)
    inputs = [math.prod(v.base_shape) for v in node.inputs if not v.tensor.startswith(PARAM)]
    depth = _depth(node)
    moved = FLOAT_BYTES * (sum(inputs) + outputs)
    name = node.layer or node.name
    return Work(name, _kinds(node), outputs * depth, outputs, _weights(node, depth), moved)


def _depth(node: Node) -> int:
    """Return the multiply-accumulates behind one output."""
    if node.op in ("linear", "matmul"):
        return int(node.inputs[0].shape[-1])
    if node.op == "conv":
        taps: int = math.prod(node.attrs["kernel"])
        return taps * node.inputs[0].shape[1] // int(node.attrs["groups"])
    return 0


def _kinds(node: Node) -> tuple[str, ...]:
    if node.op in ("linear", "matmul"):
        return ("dense" if node.op == "linear" else "matmul", "conv1x1")
    if node.op != "conv":
        return (node.op,)
    channels, groups = node.inputs[0].shape[1], node.attrs["groups"]
    kernel, stride = tuple(node.attrs["kernel"]), tuple(node.attrs["stride"])
    if groups == channels == node.shape[1] and groups > 1:
        return ("depthwise",)
    if kernel == (1, 1):
        return ("conv1x1",)
    fast = (kernel, stride, groups) == ((3, 3), (1, 1), 1) and channels >= WINOGRAD_CHANNELS
    return ("winograd", "conv") if fast else ("conv",)


def _weights(node: Node, depth: int) -> int:
    """Return the bytes of a layer's weights and of the bias that folding gives it."""
    if node.op not in ("conv", "linear"):
        return 0
    outputs = node.shape[1] if node.op == "conv" else node.shape[-1]
    return FLOAT_BYTES * outputs * (depth + 1)
