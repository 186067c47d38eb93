"""Figures of programs on a leased board, each measured once per protocol; knows no accuracy."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from host.artifact import Artifact
from host.boards.drift import DriftWatch
from host.boards.protocol import REPORT, SEARCH, MeasureProtocol
from host.boards.session import BoardSession
from host.boards.types import Measurement
from host.errors import BoardError
from host.evaluate import Figures
from host.layer_events import Events, layer_events
from host.lower.build import Builder
from host.policy import Policy
from host.store import Store
from host.types import Figure, Provenance
from protos.values import Profile

# An invalid measurement is kept and repeated, never rewarded.
ATTEMPTS = 3


@dataclass
class Meter:
    """Latency of programs on one leased board, each program measured once per protocol.

    What a board of the same fingerprint measured counts, unless `own` asks for this very board.
    `watch` looks at the board's anchor between jobs; BoardDrifted comes of it.
    """

    builder: Builder
    session: BoardSession
    store: Store
    protocol: MeasureProtocol = SEARCH
    measured: int = 0
    own: bool = False
    watch: DriftWatch | None = None

    def revive(self, why: BoardError) -> None:
        """Go on with a board that went away; raises BoardError where it stays away."""
        self.session.revive(why)

    def artifact(self, network: nn.Module, policy: Policy, folder: Path) -> Artifact:
        """Build an artifact for latency alone."""
        return self.builder.build(network, policy, folder)

    def figures(self, network: nn.Module, policy: Policy) -> Figures:
        """Build the program for latency alone and return its figures."""
        with tempfile.TemporaryDirectory() as folder:
            return self.of(self.artifact(network, policy, Path(folder)))

    def of(self, artifact: Artifact) -> Figures:
        """Return the figures of a built program, from the cache where it was measured before."""
        name, measurement, cached = self._measurement(artifact)
        source: Provenance = "cached" if cached else "measured"
        interval, energy = measurement.latency_ms, measurement.energy_mj
        return Figures(
            artifact.digest,
            artifact.size_bytes,
            Figure(interval.median, source, interval.low, interval.high),
            None if energy is None else Figure(energy, source),
            name,
            measurement.verdict,
        )

    def _measurement(self, artifact: Artifact) -> tuple[str, Measurement, bool]:
        """Return the measurement's name, the measurement, and whether it came from the cache."""
        structure = artifact.manifest["structure"]
        info = self.session.info
        board = info.name if self.own else None
        if found := self.store.cached(
            structure, info.fingerprint_digest, asdict(self.protocol), board
        ):
            return *found, True
        for _ in range(ATTEMPTS):
            if self.watch:
                self.watch.before_job()
            measurement = self.session.measure(
                artifact, self.protocol, synthetic_weights=True, anchor=self._anchor
            )
            self.measured += 1
            name = self.store.add_measurement(measurement)
            if measurement.verdict != "invalid":
                return name, measurement, False
        raise BoardError(
            f"{self.session.info.name}: {ATTEMPTS} measurements were invalid "
            f"({'; '.join(measurement.reasons)}); mend the board, then resume the run"
        )

    @property
    def _anchor(self) -> Artifact | None:
        """What runs between the blocks of a report, where the board is watched."""
        return self.watch.anchor if self.watch and self.protocol.mode == REPORT.mode else None

    def profile(self, network: nn.Module, policy: Policy) -> Iterable[tuple[str, float]]:
        """Yield (layer, median milliseconds) of every kernel call."""
        for timing in self._profiled(network, policy).kernels:
            yield timing.layer, sorted(timing.samples_ns)[len(timing.samples_ns) // 2] / 1e6

    def events(self, network: nn.Module, policy: Policy) -> Events:
        """Return the hardware events of every layer in one inference, those that are counted."""
        return layer_events(self._profiled(network, policy))

    def _profiled(self, network: nn.Module, policy: Policy) -> Profile:
        with tempfile.TemporaryDirectory() as folder:
            artifact = self.artifact(network, policy, Path(folder))
            return self.session.profile(artifact, synthetic_weights=True)
