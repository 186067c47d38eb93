"""Cycles of whole kernels on the Cortex-A72: exact counts of each block times its static cycles.

A block costs what it takes when it repeats by itself (llvm-mca), and runs as often as qemu saw it
run. So everything that a kernel does is in: prologues, tails, flushes and argument checks. What is
left out: cache misses, branch misses, and what blocks gain or lose beside other blocks.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hil_lab.bench.counts import find_qemu, is_driver, link, parameters, run
from hil_lab.bench.disassembly import Function, Instruction, disassemble
from hil_lab.bench.mca import cycles
from hil_lab.bench.programs import Planned
from hil_lab.bench.report import Show, number
from hil_lab.console import Reporter
from host.lower.kernels.kernel import Kernel, symbol
from host.lower.objects import ObjectCache
from host.lower.targets import Target

# The bar is on these: the layers of 1 x 1 are a fiftieth of the work.
KERNEL = (3, 3)
BIT_SERIAL, BAR = "mix", 12.0
LAYER_COLUMNS = ("format", "layer", "kernel", "MMAC", "MAC/cycle, whole", "cycles")
Block = tuple[Instruction, ...]


@dataclass(frozen=True)
class LayerCycles:
    """Cycles of a layer's kernels by kind; `macs` are those of the layer, without padding.

    `format` is the program's, `mode` the layer's. A product that hands on codes has the next
    layer's quantization in its own cycles.
    """

    network: str
    format: str
    mode: str
    layer: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    macs: int
    cycles: Mapping[str, float]

    @property
    def total(self) -> float:
        """Cycles of all the layer's kernels."""
        return sum(self.cycles.values())

    @property
    def macs_per_cycle(self) -> float:
        """Multiply-accumulates per cycle, all the layer's kernels included."""
        return self.macs / self.total

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        return asdict(self) | {"total": self.total, "macs_per_cycle": self.macs_per_cycle}

    def row(self) -> list[str]:
        """Return the figures as a line of a table."""
        parts = ", ".join(f"{kind} {spent:,.0f}" for kind, spent in self.cycles.items())
        size = f"{self.kernel[0]} x {self.kernel[1]}" + (
            f" / {s}" if (s := self.stride[0]) > 1 else ""
        )
        macs = f"{self.macs / 1e6:.2f}"
        return [self.format, self.layer, size, macs, number(self.macs_per_cycle), parts]


def layer_cycles(
    programs: Sequence[Planned], target: Target, cache: ObjectCache, reporter: Reporter
) -> list[LayerCycles]:
    """Return the cycles of every layer's kernels, each of them run once under qemu."""
    find_qemu()
    layered = {c.kernel for program in programs for c in program.calls if c.layer}
    kernels = {symbol(kernel, target): kernel for kernel in layered}
    spent: dict[str, float] = {}
    with reporter.progress("layers", "whole kernels", len(kernels)) as advance:
        for name, value in kernel_cycles(kernels, target, cache):
            spent[name] = value
            advance(len(spent), "")
    return [
        LayerCycles(
            network=program.network,
            format=program.format,
            mode=form.mode,
            layer=layer.name,
            kernel=layer.kernel,
            stride=layer.stride,
            macs=layer.macs,
            cycles=_by_kind(program, layer.name, spent, target),
        )
        for program in programs
        for layer, form in zip(program.graph.layers, program.policy.layers, strict=True)
    ]


def layer_shows(layers: Sequence[LayerCycles]) -> Iterator[Show]:
    """Yield the bar on bit-serial layers, and other means by work and least ones beside it."""
    serial = [layer for layer in layers if layer.mode == BIT_SERIAL]
    square = [layer for layer in serial if layer.kernel == KERNEL]
    sets = (
        ("A2W2 with quantise, pack and flush, 3 x 3 layers", square, BAR),
        ("A2W2 with quantise, pack and flush, all layers", serial, None),
        ("int8 with quantise, all layers", [x for x in layers if x.format == "int8"], None),
        ("fp32, all layers", [x for x in layers if x.format == "fp32"], None),
    )
    for name, some, bar in sets:
        if some:
            which = f"{name} of {some[0].network}"
            mean = sum(x.macs for x in some) / sum(x.total for x in some)
            least = min(x.macs_per_cycle for x in some)
            yield Show(f"{which}: mean by work", mean, "MAC/cycle", bar)
            yield Show(f"{which}: least", least, "MAC/cycle")


def kernel_cycles(
    kernels: Mapping[str, Kernel],
    target: Target,
    cache: ObjectCache,
    values: Mapping[str, Mapping[int, tuple[int, ...]]] | None = None,
) -> Iterator[tuple[str, float]]:
    """Yield the cycles of one call of every kernel, by symbol.

    `values[symbol][i]` are those of parameter i, where zeros would leave a kernel nothing to do.
    """
    objects = cache.objects(kernels.values(), target)
    taken = {name: parameters(kernel.prim_func(target)) for name, kernel in kernels.items()}
    for name, filled in (values or {}).items():
        taken[name] = tuple(replace(p, values=filled.get(i, ())) for i, p in enumerate(taken[name]))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        program = Path(folder) / "program"
        link(taken, [objects[name] for name in taken], target, program)
        functions = [f for f in disassemble(program) if not is_driver(f.name)]
        jobs = [pool.submit(_counted, program, i, functions) for i in range(len(taken))]
        for name, job in zip(taken, jobs, strict=True):
            yield name, job.result()


def _counted(program: Path, which: int, functions: Sequence[Function]) -> float:
    return spent(functions, run(program, which))


def spent(functions: Iterable[Function], counts: Mapping[int, int]) -> float:
    """Return the cycles of so many runs of each instruction."""
    ran = [block for f in functions for block in blocks(f, counts) if _runs(block, counts)]
    return sum(_runs(block, counts) * c for block, c in zip(ran, cycles(ran), strict=True))


def blocks(function: Function, counts: Mapping[int, int]) -> list[Block]:
    """Cut a function where control may leave or enter: behind branches and at their targets."""
    targets = {instruction.target for instruction in function.instructions}
    found: list[list[Instruction]] = []
    last: Instruction | None = None
    for instruction in function.instructions:
        address = instruction.address
        if (
            last is None
            or last.ends_block
            or address in targets
            or counts.get(last.address, 0) != counts.get(address, 0)
        ):
            found.append([])
        found[-1].append(instruction)
        last = instruction
    return [tuple(block) for block in found]


def _runs(block: Block, counts: Mapping[int, int]) -> int:
    return counts.get(block[0].address, 0)


def _by_kind(
    program: Planned, layer: str, spent: Mapping[str, float], target: Target
) -> dict[str, float]:
    found: dict[str, float] = {}
    for call in program.calls:
        if call.layer == layer:
            kind = call.kernel.kind
            found[kind] = found.get(kind, 0.0) + spent[symbol(call.kernel, target)]
    return found
