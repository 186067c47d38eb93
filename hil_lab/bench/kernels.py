"""Every kernel of a network on the Cortex-A72: what it is, and its inner loops counted statically.

A kernel falls back when its hottest loop is not one of vectors: it was left to the compiler.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import tvm

from hil_lab.bench.mca import Loop, inner_loops, require_mca
from hil_lab.bench.networks import BenchNetwork
from hil_lab.console import Reporter
from host.graph import trace_with_plan
from host.lower.build import Builder
from host.lower.kernels.kernel import Kernel, symbol
from host.lower.plan import Call
from host.lower.targets import TARGETS, Target, refusal
from host.policy import Choice, Space, uncompressed, uniform_int8

TARGET = "cortex-a72"
# Multiply-accumulates per cycle at the processor's peak, by number format: one 128-bit vector unit
# for products and one for the rest.
PEAK = {"fp32": 4.0, "int8": 8.0}
FORMATS = ("fp32", "int8", "a2w2")


@dataclass(frozen=True)
class KernelFigures:
    """One kernel configuration of a network: how often it is called and its hottest inner loop.

    `macs_per_cycle` is None for kernels that multiply nothing.
    """

    call: str
    kind: str
    format: str
    layers: tuple[str, ...]
    calls: int
    macs: int
    macs_per_cycle: float | None
    spills: int
    fallback: bool
    loop: Loop | None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        return asdict(self)


def kernel_figures(
    bench: BenchNetwork, format_name: str, reporter: Reporter
) -> list[KernelFigures]:
    """Return every kernel configuration of a network in one number format."""
    require_mca()
    target = TARGETS[TARGET]()
    network = bench.make()
    graph, _ = trace_with_plan(network, bench.name, bench.input_shape, bench.classes)
    policy = _policy(Space(graph, refusal), format_name)
    calls = Builder(graph, target, source=network).plan(network, policy).calls
    count = Counter(symbol(call.kernel, target) for call in calls)
    figures = []
    with reporter.progress("kernels", f"{bench.name} {format_name}", len(count)) as advance:
        for name in count:
            mine = [call for call in calls if symbol(call.kernel, target) == name]
            figures.append(_figures(name, mine, format_name, target))
            advance(len(figures), "")
    return figures


def _policy(space: Space, format_name: str) -> Any:
    if format_name == "fp32":
        return uncompressed(space.graph)
    if format_name == "int8":
        return uniform_int8(space)
    form = Choice(None, "mix", 2, 2)
    return space.policy({layer.name: form for layer in space.graph.layers})


def _figures(name: str, calls: list[Call], format_name: str, target: Target) -> KernelFigures:
    kernel = calls[0].kernel
    loops = inner_loops(assembly(kernel, target))
    hottest = loops[0] if loops else None
    macs = kernel.cost().macs
    products = _one_bit_products(kernel)
    rate = hottest.products_per_cycle / products if macs and hottest else None
    return KernelFigures(
        call=name,
        kind=kernel.kind,
        format=format_name,
        layers=tuple(call.layer for call in calls if call.layer),
        calls=len(calls),
        macs=macs,
        macs_per_cycle=rate,
        spills=hottest.spills if hottest else 0,
        fallback=_falls_back(loops, macs),
        loop=hottest,
    )


def _one_bit_products(kernel: Kernel) -> int:
    """Return how many one-bit products make one multiply-accumulate of a bit-serial kernel."""
    fields = asdict(kernel)
    bits = fields.get("weight_bits", 1) * fields.get("act_bits", 1)
    return int(bits) if kernel.kind == "bit_gemm" else 1


def _falls_back(loops: list[Loop], macs: int) -> bool:
    if macs:
        return not loops or loops[0].products == 0
    return bool(loops) and loops[0].scalar_float and not loops[0].vector


def assembly(kernel: Kernel, target: Target) -> str:
    """Return a kernel's assembly."""
    function = kernel.prim_func(target).with_attr("global_symbol", "kernel")
    module = tvm.IRModule({"kernel": function})
    executable = tvm.compile(module, target=tvm.target.Target(target.tvm()))
    return str(executable.mod.inspect_source("asm"))
