"""What a search measures before it begins, once per run: reference, profiles, hardware events."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from hil_lab.leased import LeasedBoards
from hil_lab.workbench import Workbench
from host.evaluate import Figures
from host.kernel_times import KernelTimes, Timed, time_kernels, timed_programs
from host.layer_events import Events
from host.layer_times import LayerTimes, profile_layers, uniform_programs
from host.lower.build import Builder
from host.policy import Policy, uncompressed
from host.types import Figure

REFERENCE, PROFILES, KERNELS = "reference.json", "layer_times.json", "kernel_times.json"
COUNTERS = "counters.json"


@dataclass
class Groundwork:
    """The measurements of one run on its leased boards, each made on first use and kept."""

    bench: Workbench
    boards: LeasedBoards
    builder: Builder

    @cached_property
    def reference(self) -> Figures:
        """The figures of the optimised fp32 program."""
        run, subject = self.bench.run, self.bench.subject
        if not run.path(REFERENCE).is_file():
            figures = self.boards.meter.figures(subject.network, uncompressed(subject.graph))
            energy = figures.energy_mj
            value = {
                "latency_ms": figures.latency_ms.value,
                "energy_mj": None if energy is None else energy.value,
                "size_bytes": figures.size_bytes,
                "measurement": figures.measurement,
                "measurements": list(figures.measurements),
            }
            run.write(REFERENCE, value)
        kept = run.read(REFERENCE)
        latency, mj = Figure(kept["latency_ms"], "measured"), kept.get("energy_mj")
        energy = None if mj is None else Figure(mj, "measured")
        return Figures("", kept.get("size_bytes", 0), latency, energy)

    @cached_property
    def layer_times(self) -> LayerTimes:
        """Predictions of every layer, from the profiles of uniform programs."""
        run, space = self.bench.run, self.bench.space
        if not run.path(PROFILES).is_file():
            with self._profiling(len(uniform_programs(space))) as profile:
                run.write(PROFILES, profile_layers(space, profile).to_dict())
        return LayerTimes(space, run.read(PROFILES))

    @cached_property
    def kernel_times(self) -> KernelTimes:
        """Predictions from the kernels of a program, some programs profiled."""
        run, space = self.bench.run, self.bench.space
        if not run.path(KERNELS).is_file():
            with self._profiling(len(timed_programs(space))) as profile:
                timed = time_kernels(space, self._rows, profile)
                run.write(KERNELS, {"timed": [asdict(sample) for sample in timed]})
        timed = [Timed(**raw) for raw in run.read(KERNELS)["timed"]]
        return KernelTimes(self._rows, timed)

    @cached_property
    def events(self) -> Events:
        """Hardware events of the uncompressed network's layers."""
        run, subject = self.bench.run, self.bench.subject
        if not run.path(COUNTERS).is_file():
            policy = uncompressed(subject.graph)
            run.write(COUNTERS, self.boards.meter.events(subject.shaped(policy), policy))
        return run.read(COUNTERS)

    @contextmanager
    def _profiling(self, programs: int) -> Iterator[Callable[[Policy], list[tuple[str, float]]]]:
        """Yield what profiles a program on the board and counts it as progress."""
        what = self.boards.session.info.name
        with self.bench.reporter.progress("profile", what, programs) as advance:
            done = itertools.count(1)

            def profile(policy: Policy) -> list[tuple[str, float]]:
                network = self.bench.subject.shaped(policy)  # times depend on no weight
                rows = list(self.boards.meter.profile(network, policy))
                advance(next(done), "")
                return rows

            yield profile

    def _rows(self, policy: Policy) -> list[dict[str, Any]]:
        plan = self.builder.plan(self.bench.subject.network, policy)
        return self.builder.rows(plan, policy)
