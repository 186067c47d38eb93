"""Latencies that others measured on boards, as programs with their milliseconds; no weights.

NAS-Bench-201 networks on a Raspberry Pi 4 (HW-NAS-Bench), and single convolutions that TVM tuned on
an RK3399 (TopHub). The files are not part of the project: `hil-lab bench simulator --data FOLDER`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from host.errors import DataError
from host.lower.program import Node, Program, Shape, View

NETWORKS = "nasbench201_cifar10_raspi4_ms.csv"
KERNELS = "rk3399_a72_conv_fp32_ms.csv"
STAGE_CHANNELS, CELLS, CLASSES = (16, 32, 64), 5, 10
PICTURE: Shape = (1, 3, 32, 32)


@dataclass(frozen=True)
class Measured:
    """A program and the milliseconds that somebody measured."""

    name: str
    program: Program
    ms: float


def networks(folder: Path) -> list[Measured]:
    """Return the NAS-Bench-201 networks, in the order of the file."""
    return [
        Measured(row["arch_str"], nasbench201(row["arch_str"]), float(row["raspi4"]))
        for row in _rows(folder / NETWORKS)
    ]


def kernels(folder: Path) -> list[Measured]:
    """Return the single convolutions, in the order of the file."""
    return [
        Measured(f"{row['template']} {number}", _convolution(row), float(row["ms"]))
        for number, row in enumerate(_rows(folder / KERNELS))
    ]


def nasbench201(architecture: str) -> Program:
    """Return the network of an architecture string, as torch.export writes it (NAS-Bench-201)."""
    net = _Net()
    x = net.norm(net.conv(net.input, STAGE_CHANNELS[0], 3))
    for stage, channels in enumerate(STAGE_CHANNELS):
        if stage:
            x = _reduction(net, x, channels)
        for _ in range(CELLS):
            x = _cell(net, x, architecture)
    x = net.relu(net.norm(x))
    x = net.pool(x, x.shape[2], x.shape[2], 0).then("reshape", (), (1, STAGE_CHANNELS[-1]))
    return net.program(net.add("linear", (x,), (1, CLASSES), layer="linear"))


def _cell(net: _Net, x: View, architecture: str) -> View:
    """Return the last of four nodes; each is the sum of its edges from those before it."""
    tensors = [x]
    for text in architecture.split("+"):
        terms = []
        for edge in text.strip("|").split("|"):
            operation, _, source = edge.rpartition("~")
            terms.append(_edge(net, tensors[int(source)], operation))
        total = terms[0]
        for term in terms[1:]:
            total = net.pointwise(("add", 1), total, term)
        tensors.append(total)
    return tensors[-1]


def _edge(net: _Net, x: View, operation: str) -> View:
    if operation == "skip_connect":
        return x
    if operation == "none":
        return net.pointwise(("mul_scalar", 0.0), x)
    if operation == "avg_pool_3x3":
        return net.pool(x, 3, 1, 1)
    return net.norm(net.conv(net.relu(x), x.shape[1], int(operation[-1])))


def _reduction(net: _Net, x: View, channels: int) -> View:
    """Return a residual block of stride two."""
    inner = net.norm(net.conv(net.relu(x), channels, 3, 2))
    inner = net.norm(net.conv(net.relu(inner), channels, 3))
    return net.pointwise(("add", 1), net.conv(net.pool(x, 2, 2, 0), channels, 1), inner)


@dataclass
class _Net:
    """A program in the making."""

    nodes: list[Node] = field(default_factory=list)
    input: View = field(default_factory=lambda: View("x", PICTURE))

    def program(self, output: View) -> Program:
        return Program("x", PICTURE, tuple(self.nodes), output)

    def add(self, op: str, inputs: tuple[View, ...], shape: Shape, **more: object) -> View:
        node = Node(f"t{len(self.nodes)}", op, inputs, shape, **more)  # type: ignore[arg-type]
        self.nodes.append(node)
        return View(node.name, shape)

    def conv(self, x: View, channels: int, kernel: int, stride: int = 1) -> View:
        attrs = {
            "kernel": (kernel, kernel),
            "stride": (stride, stride),
            "padding": (kernel // 2, kernel // 2),
            "groups": 1,
        }
        size = (x.shape[2] // stride, x.shape[3] // stride)
        layer = f"conv{len(self.nodes)}"
        return self.add("conv", (x,), (1, channels, *size), attrs=attrs, layer=layer)

    def norm(self, x: View) -> View:
        return self.add("batch_norm", (x,), x.shape, norm=f"norm{len(self.nodes)}")

    def relu(self, x: View) -> View:
        return self.pointwise(("relu",), x)

    def pointwise(self, step: tuple[object, ...], *inputs: View) -> View:
        return self.add("pointwise", inputs, inputs[0].shape, post=(step,))

    def pool(self, x: View, kernel: int, stride: int, padding: int) -> View:
        size = (x.shape[2] + 2 * padding - kernel) // stride + 1
        pair = {"kernel": (kernel, kernel), "stride": (stride, stride)}
        attrs = {"reduce": "mean", **pair, "padding": (padding, padding)}
        return self.add("pool", (x,), (1, x.shape[1], size, size), attrs=attrs)


def _convolution(row: Mapping[str, str]) -> Program:
    """Return the program of one convolution of a tuner's log."""
    n = {key: int(row[key]) for key in row if key not in ("model", "template", "dtype", "ms")}
    depthwise = n["Wt1_in_per_group"] == 1 and n["C"] > 1
    channels = n["C"] if depthwise else n["Wt0_out"]
    attrs = {
        "kernel": (n["KH"], n["KW"]),
        "stride": (n["SH"], n["SW"]),
        "padding": (n["PH"], n["PW"]),
        "groups": n["C"] // n["Wt1_in_per_group"],
    }
    size = (
        (n["H"] + 2 * n["PH"] - n["KH"]) // n["SH"] + 1,
        (n["W"] + 2 * n["PW"] - n["KW"]) // n["SW"] + 1,
    )
    x = View("x", (1, n["C"], n["H"], n["W"]))
    node = Node("t0", "conv", (x,), (1, channels, *size), attrs=attrs, layer="conv")
    return Program("x", x.shape, (node,), View("t0", node.shape))


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="") as file:
            yield from csv.DictReader(file)
    except OSError as e:
        raise DataError(f"{path}: {e.strerror}; --data names the folder of the CSV files") from e
