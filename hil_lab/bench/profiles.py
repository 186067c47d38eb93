"""Whether a profile is true: the kernels of a program together against the whole, end to end.

Run on the board `local`: this machine behind the real agent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from hil_lab.bench.networks import BenchNetwork, chosen
from hil_lab.bench.report import Options, Report, Show, Table
from hil_lab.inventory import LOCAL, open_board
from host.boards.session import BoardSession
from host.graph import trace_unpruned
from host.lower.build import Builder
from host.lower.targets import local_target, refusal
from host.policy import Policy, Space, uncompressed, uniform_int8
from protos.values import Profile

DEFAULT_NETWORKS = ("resnet18-cifar", "resnet20", "mobilenetv2-224", "vit-tiny-32")
DEFAULT_ROUNDS = 100
BAR_RATIO = 0.05
COLUMNS = (
    "network",
    "format",
    "kernels",
    "sum",
    "end to end",
    "apart",
    "instrument",
    "events",
)


@dataclass(frozen=True)
class Truth:
    """The profile of one program."""

    network: str
    format: str
    profile: Profile

    @property
    def apart_ratio(self) -> float:
        """How far the sum is from the whole, as a share of it, in either direction."""
        return abs(self.profile.excess_ratio or 0.0)

    @property
    def instrument_us(self) -> float:
        """Microseconds that the instrument took of one run's kernels, and were taken off."""
        return sum(kernel.instrument_ns for kernel in self.profile.kernels) / 1e3

    def to_dict(self) -> dict[str, Any]:
        """Return the raw samples and what follows from them as JSON."""
        derived = {"sums_ns": self.profile.sums_ns, "excess_ratio": self.profile.excess_ratio}
        return asdict(self) | derived | {"instrument_us": self.instrument_us}

    def row(self) -> list[str]:
        """Return the medians as a line of a table."""
        profile = self.profile
        return [
            self.network,
            self.format,
            f"{len(profile.kernels)}",
            f"{median(profile.sums_ns) / 1e3:.1f} us",
            f"{median(profile.end_to_end_ns) / 1e3:.1f} us",
            f"{profile.excess_ratio or 0.0:+.1%}",
            f"{self.instrument_us:.1f} us",
            ", ".join(sorted({c.name for k in profile.kernels for c in k.counters})) or "-",
        ]

    def show(self) -> Show:
        """Return the bar on the agreement."""
        name = f"{self.network} {self.format}: profile against end to end"
        return Show(name, self.apart_ratio, "apart", BAR_RATIO, "at most")


def report(options: Options) -> Report:
    """Profile some networks in fp32 and int8 on this machine."""
    networks = chosen(options.networks or DEFAULT_NETWORKS)
    threads, rounds = (options.threads or (1,))[0], options.rounds or DEFAULT_ROUNDS
    truths: list[Truth] = []
    total = 2 * len(networks)
    with (
        open_board(LOCAL) as client,
        client.lease("bench profile") as session,
        options.reporter.progress("profile", f"{threads} threads", total) as advance,
    ):
        for network in networks:
            for truth in profiled(network, threads, rounds, session):
                truths.append(truth)
                advance(len(truths), network.name)
    notes = dict.fromkeys(note for truth in truths for note in truth.profile.notes)
    return Report(
        samples={"threads": threads, "profiles": [truth.to_dict() for truth in truths]},
        tables=[Table(COLUMNS, [truth.row() for truth in truths])],
        shows=[truth.show() for truth in truths],
        missing=list(notes),
    )


def profiled(
    bench: BenchNetwork, threads: int, rounds: int, session: BoardSession
) -> Iterator[Truth]:
    """Yield the profiles of a network's uniform programs, with made-up weights."""
    network = bench.make()
    graph = trace_unpruned(network, bench.name, bench.input_shape, bench.classes)
    builder = Builder(graph, local_target(), threads, source=network)
    policies: dict[str, Policy] = {
        "fp32": uncompressed(graph),
        "int8": uniform_int8(Space(graph, refusal)),
    }
    for name, policy in policies.items():
        with tempfile.TemporaryDirectory() as folder:
            artifact = builder.build(network, policy, Path(folder))
            profile = session.profile(artifact, rounds, synthetic_weights=True)
        yield Truth(bench.name, name, profile)
