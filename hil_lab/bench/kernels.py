"""Every kernel of a network on the Cortex-A72: what it is, and its inner loops counted statically.

A kernel falls back when its hottest loop is not one of vectors: it was left to the compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hil_lab.bench.mca import Loop, inner_loops, require_mca
from hil_lab.bench.networks import BenchNetwork
from hil_lab.console import Reporter
from host.graph import trace_with_plan
from host.layer_times import FP32, INT8, uniform_programs
from host.lower.build import Builder
from host.lower.kernels.bit_gemm import BitGemm
from host.lower.kernels.kernel import Kernel, symbol
from host.lower.objects import compile_function
from host.lower.plan import Call
from host.lower.targets import TARGETS, Target, refusal
from host.policy import Space

TARGET = "cortex-a72"
# Number formats by name, and the uniform program of each.
FORMATS = {"fp32": FP32, "int8": INT8, "a2w2": "4"}


@dataclass(frozen=True)
class KernelFigures:
    """One kernel configuration of a network: how often it is called and its hottest inner loop.

    `macs` are those of one call; `products_per_mac` is above 1 for bit-serial kernels.
    """

    call: str
    kind: str
    format: str
    layers: tuple[str, ...]
    calls: int
    macs: int
    products_per_mac: int
    loop: Loop | None

    @property
    def macs_per_cycle(self) -> float | None:
        """Multiply-accumulates per cycle of the loop; None for kernels that multiply nothing."""
        if not self.macs or self.loop is None:
            return None
        return self.loop.products_per_cycle / self.products_per_mac

    @property
    def spills(self) -> int:
        """Loads from and stores to the stack in the loop."""
        return self.loop.spills if self.loop else 0

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


def kernel_figures(
    bench: BenchNetwork, format_name: str, reporter: Reporter
) -> list[KernelFigures]:
    """Return every kernel configuration of a network in one number format."""
    require_mca()
    target = TARGETS[TARGET]()
    network = bench.make()
    graph, _ = trace_with_plan(network, bench.name, bench.input_shape, bench.classes)
    policy = uniform_programs(Space(graph, refusal))[FORMATS[format_name]]
    calls: dict[str, list[Call]] = {}
    for call in Builder(graph, target, source=network).plan(network, policy).calls:
        calls.setdefault(symbol(call.kernel, target), []).append(call)
    figures = []
    with reporter.progress("kernels", f"{bench.name} {format_name}", len(calls)) as advance:
        for name, same in calls.items():
            figures.append(_figures(name, same, format_name, target))
            advance(len(figures), "")
    return figures


def _figures(name: str, calls: Sequence[Call], format_name: str, target: Target) -> KernelFigures:
    kernel = calls[0].kernel
    function = compile_function(kernel.prim_func(target), target, name)
    loops = inner_loops(function.inspect_source("asm"))
    return KernelFigures(
        call=name,
        kind=kernel.kind,
        format=format_name,
        layers=tuple(call.layer for call in calls if call.layer),
        calls=len(calls),
        macs=kernel.cost().macs,
        products_per_mac=_products_per_mac(kernel),
        loop=loops[0] if loops else None,
    )


def _products_per_mac(kernel: Kernel) -> int:
    """Return how many one-bit products make one multiply-accumulate."""
    return kernel.weight_bits * kernel.act_bits if isinstance(kernel, BitGemm) else 1
