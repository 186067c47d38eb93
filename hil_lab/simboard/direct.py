"""The simulated board asked directly: the cost of a planned program, with nothing built or sent.

For benchmarks that need thousands of measurements. The figures are those of the board behind the
agent without its noise (tests/simboard/test_direct.py), in milliseconds instead of half a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from hil_lab.simboard.board import SimSettings
from hil_lab.simboard.cost import Cost, event_counts, program_costs
from hil_lab.simboard.power import watts
from host.evaluate import Figures
from host.layer_events import Events, summed
from host.lower.build import Builder
from host.lower.plan import Plan
from host.lower.storage import row
from host.policy import Policy, program_digest
from host.types import Figure


@dataclass
class DirectMeter:
    """A ProgramMeter over the cost model; every structure counts as measured once."""

    builder: Builder
    clock_hz: float = SimSettings().clock_mhz * 1e6

    def figures(self, network: nn.Module, policy: Policy) -> Figures:
        """Return the figures of a program that is planned, not built."""
        plan = self.builder.plan(network, policy)
        seconds = sum(cost.seconds for _, cost in self._costs(plan, policy))
        structure = program_digest(
            self.builder.graph, policy, self.builder.target.name, self.builder.threads
        )
        return Figures(
            artifact="",
            size_bytes=sum(int(row(weight)["bytes"]) for weight in plan.weights),
            latency_ms=Figure(seconds * 1e3, "measured"),
            energy_mj=Figure(seconds * 1e3 * watts(self.builder.threads), "measured"),
            measurement=structure[:12],
            verdict="trusted",
        )

    def profile(self, network: nn.Module, policy: Policy) -> Iterable[tuple[str, float]]:
        """Yield (layer, milliseconds) of every kernel call."""
        for layer, cost in self._costs(self.builder.plan(network, policy), policy):
            yield layer, cost.seconds * 1e3

    def events(self, network: nn.Module, policy: Policy) -> Events:
        """Return the events of every layer in one inference, as the model has them."""
        plan = self.builder.plan(network, policy)
        return summed((layer, event_counts((cost,))) for layer, cost in self._costs(plan, policy))

    def _costs(self, plan: Plan, policy: Policy) -> list[tuple[str, Cost]]:
        """Return the layer and the cost of every kernel call."""
        rows = self.builder.rows(plan, policy)
        manifest = {"kernels": rows, "threads": self.builder.threads}
        costs = program_costs(manifest, self.clock_hz)
        return [(r["layer"], cost) for r, cost in zip(rows, costs, strict=True)]
