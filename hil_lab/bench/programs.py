"""The programs whose kernels are counted: networks in uniform number formats, planned not built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hil_lab.bench.networks import BenchNetwork
from host.graph import trace_unpruned
from host.layer_times import FP32, INT8, uniform_programs
from host.lower.build import Builder
from host.lower.kernels.kernel import Kernel, symbol
from host.lower.plan import Call
from host.lower.targets import Target, refusal
from host.policy import Policy, Space
from host.types import Graph

# Number formats by name, and the uniform program of each.
FORMATS = {"fp32": FP32, "int8": INT8, "a2w2": "4"}


@dataclass(frozen=True)
class Planned:
    """The program of a network in one number format."""

    network: str
    format: str
    graph: Graph
    policy: Policy
    calls: tuple[Call, ...]

    def kernels(self, target: Target) -> dict[str, Kernel]:
        """Return every kernel configuration by symbol."""
        return {symbol(call.kernel, target): call.kernel for call in self.calls}


def planned(bench: BenchNetwork, target: Target) -> Iterator[Planned]:
    """Yield the program of a network in every number format."""
    network = bench.make()
    graph = trace_unpruned(network, bench.name, bench.input_shape, bench.classes)
    builder = Builder(graph, target, source=network)
    policies = uniform_programs(Space(graph, refusal))
    for name, program in FORMATS.items():
        policy = policies[program]
        yield Planned(bench.name, name, graph, policy, builder.plan(network, policy).calls)
