"""Every layer of a network alone: our fp32 kernels against oneDNN through torch, interleaved.

Ours are called as the program calls them, with their own tensors, and do what was fused into them
(bias, residual, ReLU); oneDNN computes the layer with its bias. Equal layers are timed once.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from device_agent.program import Program, Watch
from hil_lab.bench.interleave import turns
from hil_lab.bench.networks import NETWORKS, BenchNetwork, chosen
from hil_lab.bench.own import loaded, reserve_threads, use_threads
from hil_lab.bench.report import Options, Report, Show, Table, number, over
from hil_lab.console import Reporter
from host.graph import trace_unpruned
from host.lower.build import Builder
from host.lower.targets import local_target
from host.policy import uncompressed
from host.types import Layer

OURS, EAGER, PACKED = "hil-lab", "torch channels_last", "oneDNN prepacked"
DEFAULT_ROUNDS = 20
COLUMNS = ("network", "layers", "shape", "MMAC", OURS, EAGER, PACKED, "ours / best")


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds of one layer by contender; `layers` are all that are equal to it."""

    network: str
    threads: int
    layers: tuple[str, ...]
    shape: str
    macs: int
    samples_ms: Mapping[str, tuple[float, ...]]

    def gmacs_per_s(self, name: str) -> float | None:
        """Return 10^9 multiply-accumulates of the layer per second, None where it did not run."""
        samples = self.samples_ms.get(name)
        return self.macs / statistics.median(samples) / 1e6 if samples else None

    @property
    def ratio(self) -> float:
        """How many times faster we are than the better of the peers."""
        medians = {name: statistics.median(values) for name, values in self.samples_ms.items()}
        return min(medians[name] for name in medians if name != OURS) / medians[OURS]

    def to_dict(self) -> dict[str, Any]:
        """Return the samples and the ratio as JSON."""
        return asdict(self) | {"ratio": self.ratio}

    def row(self) -> list[str]:
        """Return GMAC/s as a line of a table."""
        first, *others = self.layers
        names = first + (f" and {len(others)} more" if others else "")
        rates = (number(self.gmacs_per_s(name), 1) for name in (OURS, EAGER, PACKED))
        macs = f"{self.macs / 1e6:.2f}"
        return [self.network, names, self.shape, macs, *rates, number(self.ratio)]


def report(options: Options) -> Report:
    """Time the layers of some networks; there is no bar on single layers."""
    networks = chosen(options.networks)
    threads, rounds = (options.threads or (1,))[0], options.rounds or DEFAULT_ROUNDS
    reserve_threads(threads)
    times = [t for n in networks for t in time_layers(n, threads, rounds, options.reporter)]
    name = f"our layers over oneDNN's{over(networks, NETWORKS)}"
    ratios = [t.ratio for t in times]
    return Report(
        samples={"layers": [t.to_dict() for t in times]},
        tables=[Table(("GMAC/s", *COLUMNS[1:]), [t.row() for t in times])],
        shows=[
            Show(f"{name}, geometric mean", statistics.geometric_mean(ratios), ""),
            Show(f"{name}, least", min(ratios), ""),
        ],
    )


def time_layers(
    bench: BenchNetwork, threads: int, rounds: int, reporter: Reporter
) -> Iterator[LayerTimes]:
    """Yield the times of every different layer of a network."""
    network = bench.make()
    graph = trace_unpruned(network, bench.name, bench.input_shape, bench.classes)
    builder = Builder(graph, local_target(), source=network)
    program = loaded(builder, network, uncompressed(graph), None)
    use_threads(threads)
    torch.set_num_threads(threads)
    calls = _calls(program)
    groups: dict[str, list[Layer]] = {}
    for layer in graph.layers:
        groups.setdefault(_shape(layer), []).append(layer)
    with reporter.progress("layers", bench.name, len(groups)) as advance:
        for done, (shape, same) in enumerate(groups.items(), start=1):
            runners = {OURS: _each(calls[same[0].name]), **_peers(same[0])}
            samples = turns(threads, rounds).samples_ms(runners, lambda _: None)
            names = tuple(layer.name for layer in same)
            yield LayerTimes(bench.name, threads, names, shape, same[0].macs, samples)
            advance(done, "")


class _Calls(Watch):
    """Keeps every kernel call of a layer with its tensors."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.manifest)
        self._layers = [row["layer"] for row in program.manifest["kernels"]]
        self.found: dict[str, list[Callable[[], Any]]] = {}

    def after(self, index: int, func: Callable[..., Any], args: Sequence[Any]) -> None:
        self.found.setdefault(self._layers[index], []).append(lambda: func(*args))


def _calls(program: Program) -> dict[str, list[Callable[[], Any]]]:
    calls = _Calls(program)
    program.run_watched(program.example(), calls)
    return calls.found


def _each(calls: Sequence[Callable[[], Any]]) -> Callable[[], None]:
    def run() -> None:
        for call in calls:
            call()

    return run


def _shape(layer: Layer) -> str:
    rows, columns = layer.out_size
    size = f"{layer.in_channels} -> {layer.out_channels}"
    if layer.kind != "conv":
        return f"{size}, {layer.positions} rows"
    kernel, stride = (" x ".join(map(str, pair)) for pair in (layer.kernel, layer.stride))
    groups = f", {layer.groups} groups" if layer.groups > 1 else ""
    return f"{size}, {kernel} / {stride}, {rows} x {columns}{groups}"


def _peers(layer: Layer) -> dict[str, Callable[[], Any]]:
    """Return torch as it is and oneDNN with weights that it has packed for this input."""
    generator = torch.Generator().manual_seed(0)
    bias = torch.zeros(layer.out_channels)
    if layer.kind != "conv":
        x = torch.randn(layer.positions, layer.in_channels, generator=generator)
        weight = torch.randn(layer.out_channels, layer.in_channels, generator=generator)
        return _linear(x, weight, bias)
    sizes = [
        (out - 1) * stride + kernel - 2 * padding
        for out, stride, kernel, padding in zip(
            layer.out_size, layer.stride, layer.kernel, layer.padding, strict=True
        )
    ]
    x = torch.randn(1, layer.in_channels, *sizes, generator=generator)
    shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel)
    return _convolution(layer, x, torch.randn(shape, generator=generator), bias)


def _linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> dict[str, Callable[[], Any]]:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, x.shape[0])
    fused = torch.ops.mkldnn._linear_pointwise
    return {
        EAGER: _quietly(lambda: torch.nn.functional.linear(x, weight, bias)),
        PACKED: _quietly(lambda: fused(x, packed, bias, "none", [], "")),
    }


def _convolution(
    layer: Layer, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> dict[str, Callable[[], Any]]:
    last = torch.channels_last
    x, weight = x.to(memory_format=last), weight.to(memory_format=last)
    padding, stride, dilation, groups = layer.padding, layer.stride, (1, 1), layer.groups
    packed = torch.ops.mkldnn._reorder_convolution_weight(
        weight, padding, stride, dilation, groups, x.shape
    )
    fused = torch.ops.mkldnn._convolution_pointwise
    run = torch.nn.functional.conv2d
    return {
        EAGER: _quietly(lambda: run(x, weight, bias, stride, padding, dilation, groups)),
        PACKED: _quietly(
            lambda: fused(x, packed, bias, padding, stride, dilation, groups, "none", [], "")
        ),
    }


def _quietly(call: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with torch.inference_mode():
            return call()

    return run
