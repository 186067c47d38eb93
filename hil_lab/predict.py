"""Latency, energy and memory of a program on a modelled board, operation by operation, and why.

A runtime says what a program's operations are and what takes their time; nothing is built, and
nothing is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from hil_lab.simboard.board import SimSettings
from hil_lab.simboard.cost import (
    CALL_OVERHEAD_S,
    L2_BYTES,
    THREAD_EFFICIENCY,
    Cost,
    program_costs,
)
from hil_lab.simboard.power import watts
from hil_lab.simboard.published import FLOAT_BYTES, Table, Work, table_of, works
from host.errors import CallerError
from host.lower.fuse import drop_unread, fuse
from host.lower.plan import Call
from host.lower.program import Program
from host.lower.select import select
from host.lower.targets import TARGETS
from host.policy import Policy
from host.registry import Registry

TARGET = "cortex-a72"
# Multiply-accumulates of one core a cycle, in float32: one vector of four.
PEAK_MACS_PER_CYCLE = 4.0
_TRAFFIC = ("caches", "DRAM", "memory")
# A part that takes so much of an operation is why it takes long.
_WHY = {
    "arithmetic": "arithmetic",
    "products": "products",
    "elements": "results",
    "caches": "traffic with the caches",
    "DRAM": "traffic with DRAM",
    "memory": "memory traffic",
    "call": "the call itself",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: what it does, and the seconds of each part; parts that overlap are the larger.

    `seconds` is what it takes in all; `parts` name arithmetic, caches, DRAM and call of our
    kernels, products, elements, memory and call of a runtime of others.
    """

    layer: str
    kind: str
    macs: int
    bytes_moved: int
    weight_bytes: int
    seconds: float
    parts: Mapping[str, float]

    @property
    def gmacs_per_s(self) -> float:
        """1e9 multiply-accumulates per second, as attained."""
        return self.macs / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def macs_per_byte(self) -> float:
        """Arithmetic intensity over everything that is read and written."""
        moved = self.bytes_moved + self.weight_bytes
        return self.macs / moved if moved else 0.0

    @property
    def bound(self) -> str:
        """The part that takes most of the time."""
        return max(self.parts, key=lambda part: self.parts[part])


@dataclass(frozen=True)
class Prediction:
    """A program on a modelled board; `memory_bytes` are weights and the largest live tensors."""

    name: str
    source: str
    operations: tuple[Operation, ...]
    weight_bytes: int
    memory_bytes: int
    cores: float
    peak_gmacs_per_s: float

    @property
    def latency_ms(self) -> float:
        """The sum over operations."""
        return 1e3 * sum(operation.seconds for operation in self.operations)

    @property
    def energy_mj(self) -> float:
        """Latency times the board's watts with this many cores busy."""
        return self.latency_ms * watts(self.cores)

    def roof(self, operation: Operation) -> float:
        """Return the roofline of an operation in 1e9 MAC/s: the peak, or what traffic allows."""
        moving = sum(operation.parts.get(part, 0.0) for part in _TRAFFIC)
        limit = operation.macs / moving / 1e9 if moving else math.inf
        return min(self.peak_gmacs_per_s, limit)

    def why(self, operation: Operation) -> str:
        """Say what an operation's time goes to."""
        share = operation.parts[operation.bound] / operation.seconds if operation.seconds else 0.0
        said = f"{_WHY[operation.bound]}, {min(share, 1.0):.0%}"
        if operation.bound in ("arithmetic", "products") and operation.macs:
            return f"{said}: {operation.gmacs_per_s / self.peak_gmacs_per_s:.0%} of the peak"
        if operation.bound == "DRAM":
            return f"{said}: {_left_cache(operation)} the {L2_BYTES >> 20} MiB cache"
        return said

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {
            "name": self.name,
            "latency_ms": self.latency_ms,
            "energy_mj": self.energy_mj,
            "memory_bytes": self.memory_bytes,
            "weight_bytes": self.weight_bytes,
            "macs": sum(operation.macs for operation in self.operations),
            "source": self.source,
            "peak_gmacs_per_s": self.peak_gmacs_per_s,
            "layers": [self._row(operation) for operation in self.operations],
        }

    def _row(self, operation: Operation) -> dict[str, Any]:
        return {
            "layer": operation.layer,
            "kind": operation.kind,
            "ms": 1e3 * operation.seconds,
            "macs": operation.macs,
            "bytes_moved": operation.bytes_moved,
            "weight_bytes": operation.weight_bytes,
            "macs_per_byte": operation.macs_per_byte,
            "gmacs_per_s": operation.gmacs_per_s,
            "roof_gmacs_per_s": self.roof(operation),
            "parts_ms": {name: 1e3 * seconds for name, seconds in operation.parts.items()},
            "bound": operation.bound,
            "why": self.why(operation),
        }


@dataclass(frozen=True, slots=True)
class Setup:
    """On what a program would run."""

    board: SimSettings
    threads: int = 1


Runtime = Callable[[str, Program, Setup], Prediction]
RUNTIMES: Registry[Runtime] = Registry("runtime")


@RUNTIMES.register("ours")
def ours(name: str, program: Program, setup: Setup) -> Prediction:
    """Predict what our kernels take in float32: the kernel table under the board's cost model."""
    fused = fuse(program)
    plan = select(fused, Policy(()), TARGETS[TARGET]())
    rows = [_table_row(call) for call in plan.calls]
    clock_hz = setup.board.clock_mhz * 1e6
    costs = program_costs({"kernels": rows, "threads": setup.threads}, clock_hz)
    operations = tuple(_ours(*pair) for pair in zip(rows, costs, strict=True))
    weights = sum(operation.weight_bytes for operation in operations)
    cores = 1 + THREAD_EFFICIENCY * (setup.threads - 1)
    return Prediction(
        name,
        "the cost model of the simulated board, our kernels",
        operations,
        weights,
        weights + live_bytes(fused),
        setup.threads,
        PEAK_MACS_PER_CYCLE * clock_hz * cores / 1e9,
    )


@RUNTIMES.register("published")
def published(name: str, program: Program, setup: Setup) -> Prediction:
    """Predict what others measured with runtimes of theirs, at the clock of their boards."""
    if setup.board.clock_mhz != SimSettings().clock_mhz or setup.threads != 1:
        raise CallerError(
            "--runtime published is fitted to boards as others ran them: leave out clock and "
            "threads"
        )
    found = works(program)
    table = table_of(found)
    operations = tuple(_theirs(work, table) for work in found)
    weights = sum(work.weight_bytes for work in found)
    peak = PEAK_MACS_PER_CYCLE * table.cores * setup.board.clock_mhz / 1e3
    memory = weights + live_bytes(drop_unread(program))
    return Prediction(name, table.source, operations, weights, memory, table.cores, peak)


def live_bytes(program: Program) -> int:
    """Return the most bytes of float32 tensors that are needed at once, none written in place."""
    sizes = {program.input: math.prod(program.input_shape)}
    begins, ends = {program.input: 0}, {program.input: 0}
    for at, node in enumerate(program.nodes):
        sizes[node.name] = math.prod(node.shape)
        begins[node.name] = ends[node.name] = at
        for view in node.inputs:
            if view.tensor in ends:
                ends[view.tensor] = at
    changes = [0] * (len(program.nodes) + 2)
    for tensor, size in sizes.items():
        changes[begins[tensor]] += size
        changes[ends[tensor] + 1] -= size
    return FLOAT_BYTES * max(accumulate(changes))


def _table_row(call: Call) -> dict[str, Any]:
    cost = call.kernel.cost()
    sizes = {name: getattr(cost, name) for name in type(cost).__slots__}
    return {"layer": call.layer, "kind": call.kernel.kind, "weight_bits": 32, **sizes}


def _ours(row: Mapping[str, Any], cost: Cost) -> Operation:
    return Operation(
        row["layer"] or row["kind"],
        row["kind"],
        row["macs"],
        row["bytes_read"] + row["bytes_written"],
        row["weight_bytes"],
        cost.seconds,
        {
            "arithmetic": cost.compute_s,
            "caches": cost.cache_s,
            "DRAM": cost.dram_s,
            "call": CALL_OVERHEAD_S,
        },
    )


def _theirs(work: Work, table: Table) -> Operation:
    parts = table.seconds(work)
    counts = (work.macs, work.bytes_moved, work.weight_bytes)
    return Operation(work.name, table.kind(work), *counts, sum(parts.values()), parts)


def _left_cache(operation: Operation) -> str:
    what = "weights" if operation.weight_bytes > operation.bytes_moved else "activations"
    kib = max(operation.weight_bytes, operation.bytes_moved) >> 10
    return f"{kib} KiB of {what} and more do not stay in"
