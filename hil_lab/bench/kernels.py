"""Every kernel of a network on the Cortex-A72: what it is, and its inner loops counted statically.

A kernel falls back when its hottest loop is not one of vectors: it was left to the compiler.
Equal kernels of several networks and number formats are compiled and counted once.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hil_lab.bench.disassembly import OBJDUMP, disassemble, require
from hil_lab.bench.mca import MCA, Loop, inner_loops
from hil_lab.bench.networks import NETWORKS, chosen
from hil_lab.bench.programs import Planned, planned
from hil_lab.bench.report import Options, Report, Show, Table, number, over
from hil_lab.bench.whole import LAYER_COLUMNS, LayerCycles, layer_cycles, layer_shows
from hil_lab.console import Reporter
from host.errors import HilError
from host.lower.kernels.bit_gemm import BitGemm
from host.lower.kernels.kernel import Kernel, symbol
from host.lower.objects import ObjectCache
from host.lower.plan import Call
from host.lower.targets import TARGETS, Target

TARGET = "cortex-a72"
# The network whose layers are counted whole as well.
WHOLE = "resnet18-cifar"
FLOAT_KINDS = ("conv_fp32", "winograd_fp32", "dense_fp32")
COLUMNS = ("network", "format", "kernel", "calls", "MMAC", "MAC/cycle", "spills", "", "layers")


@dataclass(frozen=True)
class KernelFigures:
    """One kernel configuration of a network: how often it is called and its inner loops.

    `macs` are those of one call; `products_per_mac` is above 1 for bit-serial kernels.
    """

    network: str
    format: str
    call: str
    kind: str
    layers: tuple[str, ...]
    calls: int
    macs: int
    products_per_mac: int
    loops: tuple[Loop, ...]

    @property
    def loop(self) -> Loop | None:
        """The loop with most products, else with most cycles."""
        return self.loops[0] if self.loops else None

    @property
    def macs_per_cycle(self) -> float | None:
        """Multiply-accumulates per cycle of the loop; None for kernels that multiply nothing."""
        if not self.macs or self.loop is None:
            return None
        return self.loop.products_per_cycle / self.products_per_mac

    @property
    def spills(self) -> int:
        """Loads from and stores to the stack in all inner loops."""
        return sum(loop.spills for loop in self.loops)

    @property
    def fallback(self) -> bool:
        """Whether the kernel was left to the compiler."""
        if self.macs:
            return self.loop is None or self.loop.products == 0
        return self.loop is not None and self.loop.scalar_float and not self.loop.vector

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        derived = ("macs_per_cycle", "spills", "fallback")
        return asdict(self) | {name: getattr(self, name) for name in derived}

    def row(self) -> list[str]:
        """Return the figures as a line of a table."""
        return [
            self.network,
            self.format,
            self.kind,
            f"{self.calls}",
            f"{self.macs / 1e6:.2f}",
            number(self.macs_per_cycle),
            f"{self.spills}",
            "FALLBACK" if self.fallback else "",
            ", ".join(self.layers[:2]) + (" ..." if len(self.layers) > 2 else ""),
        ]


def report(options: Options) -> Report:
    """Count the kernels of some networks, and the layers of one of them whole."""
    require((MCA, OBJDUMP))
    target = TARGETS[TARGET]()
    networks = chosen(options.networks)
    programs = [program for network in networks for program in planned(network, target)]
    with tempfile.TemporaryDirectory() as folder:
        # Compiled anew, whatever a cache holds: these are the figures of the schedules as they are.
        cache = ObjectCache(Path(folder))
        figures = kernel_figures(programs, target, cache, options.reporter)
        layers, missing = _whole(programs, target, cache, options.reporter)
    return Report(
        samples={
            "kernels": [figure.to_dict() for figure in figures],
            "layers": [layer.to_dict() for layer in layers],
        },
        tables=[
            Table(COLUMNS, [figure.row() for figure in figures]),
            Table(LAYER_COLUMNS, [layer.row() for layer in layers]),
        ],
        shows=[*loop_shows(figures, over(networks, NETWORKS)), *layer_shows(layers)],
        missing=missing,
    )


def kernel_figures(
    programs: Sequence[Planned], target: Target, cache: ObjectCache, reporter: Reporter
) -> list[KernelFigures]:
    """Return every kernel configuration of every program."""
    kernels = {name: k for program in programs for name, k in program.kernels(target).items()}
    loops: dict[str, tuple[Loop, ...]] = {}
    with reporter.progress("kernels", f"{len(programs)} programs", len(kernels)) as advance:
        objects = cache.objects(kernels.values(), target)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for name, found in zip(objects, pool.map(_loops, objects.values()), strict=True):
                loops[name] = found
                advance(len(loops), "")
    return [figure for program in programs for figure in _figures(program, loops, target)]


def loop_shows(figures: Sequence[KernelFigures], where: str) -> Iterator[Show]:
    """Yield the bars on inner loops, and the least of the kinds that have none beside them."""
    least: dict[str, float] = {}
    for figure in figures:
        value = figure.macs_per_cycle
        if value is not None:
            kind = _class(figure.kind)
            least[kind] = min(value, least.get(kind, value))
    bars = {"fp32 convolution and dense": 3.8, "int8": 7.6}
    for kind, value in sorted(least.items(), key=lambda item: item[0] not in bars):
        name = f"{kind}: hottest inner loop, least of all kernels{where}"
        yield Show(name, value, "MAC/cycle", bars.get(kind))
    spills = sum(figure.spills for figure in figures)
    yield Show(f"stack accesses in inner loops{where}", spills, "", 0, "at most")
    fallbacks = sum(figure.fallback for figure in figures)
    yield Show(f"kernels left to the compiler{where}", fallbacks, "", 0, "at most")


def _class(kind: str) -> str:
    """Return what a bar is on."""
    if kind in FLOAT_KINDS:
        return "fp32 convolution and dense"
    return "int8" if kind == "int8_conv" else kind


def _whole(
    programs: Sequence[Planned], target: Target, cache: ObjectCache, reporter: Reporter
) -> tuple[list[LayerCycles], list[str]]:
    """Return the layers that are counted whole, or why there are none."""
    ours = [program for program in programs if program.network == WHOLE]
    if not ours:
        return [], [f"cycles of whole layers, which are those of {WHOLE}: it was not chosen"]
    try:
        return layer_cycles(ours, target, cache, reporter), []
    except HilError as e:
        return [], [f"cycles of whole layers: {e}"]


def _loops(path: Path) -> tuple[Loop, ...]:
    return tuple(inner_loops(disassemble(path)))


def _figures(
    program: Planned, loops: Mapping[str, tuple[Loop, ...]], target: Target
) -> Iterator[KernelFigures]:
    calls: dict[str, list[Call]] = {}
    for call in program.calls:
        calls.setdefault(symbol(call.kernel, target), []).append(call)
    for name, same in calls.items():
        kernel = same[0].kernel
        yield KernelFigures(
            network=program.network,
            format=program.format,
            call=name,
            kind=kernel.kind,
            layers=tuple(call.layer for call in same if call.layer),
            calls=len(same),
            macs=kernel.cost().macs,
            products_per_mac=_products_per_mac(kernel),
            loops=loops[name],
        )


def _products_per_mac(kernel: Kernel) -> int:
    """Return how many one-bit products make one multiply-accumulate."""
    return kernel.weight_bits * kernel.act_bits if isinstance(kernel, BitGemm) else 1
