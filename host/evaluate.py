"""Policy to Evaluation: compress, train a little, count, and ask the board or the cache."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from host.artifact import Artifact
from host.boards.protocol import SEARCH, MeasureProtocol
from host.boards.session import BoardSession
from host.boards.types import Measurement
from host.compress.candidate import CALIBRATION_IMAGES, compress
from host.compress.finetune import Training, accuracy, finetune, ratio
from host.compress.plan import PruningPlan
from host.compress.reconstruct import Teacher, teacher
from host.data import Data, SplitName
from host.errors import BoardError
from host.lower.build import Builder
from host.policy import Policy, policy_bops, policy_macs
from host.store import Store
from host.types import Evaluation, Figure, Graph, Provenance

SEED_BITS = 63
# An invalid measurement is kept and repeated, never rewarded.
ATTEMPTS = 3


@dataclass(frozen=True)
class Subject:
    """What is compressed: a trained network, its layers, its channel groups and its data.

    With `reconstruction`, compressed weights are solved to answer as the network's do.
    """

    network: nn.Module
    graph: Graph
    plan: PruningPlan
    data: Data
    reconstruction: bool = True

    @cached_property
    def teacher(self) -> Teacher | None:
        """What the network's layers answer to the calibration images, run once."""
        if not self.reconstruction:
            return None
        layers = [layer.name for layer in self.graph.layers]
        return teacher(self.network, layers, self.data.calibration(CALIBRATION_IMAGES))

    def compressed(self, policy: Policy) -> nn.Module:
        """Return the compressed network of a policy, calibrated, not yet trained."""
        return compress(self.network, policy, self.plan, self.data, known=self.teacher)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a program is and costs: its artifact, its bytes, and one measurement by name."""

    artifact: str
    size_bytes: int
    latency_ms: Figure
    energy_mj: Figure | None = None
    measurement: str = ""
    verdict: str = ""


class ProgramMeter(Protocol):
    """Turns a compressed network into the figures of its program."""

    def figures(self, network: nn.Module, policy: Policy) -> Figures:
        """Build the program for latency alone and return its figures."""


@dataclass
class Meter:
    """Latency of programs on one leased board, each program measured once per protocol."""

    builder: Builder
    session: BoardSession
    store: Store
    protocol: MeasureProtocol = SEARCH
    measured: int = 0

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
        fingerprint = self.session.info.fingerprint_digest
        if found := self.store.cached(structure, fingerprint, asdict(self.protocol)):
            return *found, True
        for _ in range(ATTEMPTS):
            measurement = self.session.measure(artifact, self.protocol, synthetic_weights=True)
            self.measured += 1
            name = self.store.add_measurement(measurement)
            if measurement.verdict != "invalid":
                return name, measurement, False
        raise BoardError(
            f"{self.session.info.name}: {ATTEMPTS} measurements were invalid "
            f"({'; '.join(measurement.reasons)}); mend the board, then resume the run"
        )

    def profile(self, network: nn.Module, policy: Policy) -> Iterable[tuple[str, float]]:
        """Yield (layer, median milliseconds) of every kernel call."""
        with tempfile.TemporaryDirectory() as folder:
            artifact = self.artifact(network, policy, Path(folder))
            profile = self.session.profile(artifact, synthetic_weights=True)
            for timing in profile.kernels:
                yield timing.layer, sorted(timing.samples_ns)[len(timing.samples_ns) // 2] / 1e6


@dataclass
class Evaluator:
    """Evaluates policies of one subject; the same policy and seed give the same accuracy."""

    subject: Subject
    meter: ProgramMeter
    training: Training
    validation_images: int | None = None
    seed: int = 0
    known: dict[str, Evaluation] = field(default_factory=dict)

    def __call__(self, policy: Policy) -> Evaluation:
        """Return the evaluation of a policy on validation images; equal policies are not redone."""
        name = policy.digest()
        if name not in self.known:
            self.known[name] = self._evaluate(policy)
        return self.known[name]

    def _evaluate(self, policy: Policy) -> Evaluation:
        start = time.perf_counter()
        subject = self.subject
        network = subject.compressed(policy)
        figures = self.meter.figures(network, policy)
        if self.training.steps != 0:
            generator = torch.Generator().manual_seed(seed_of(policy, self.seed))
            finetune(network, subject.data, self.training, generator=generator)
        counts = accuracy(network, "validation", subject.data, limit=self.validation_images)
        seconds = time.perf_counter() - start
        return evaluation(subject.graph, policy, counts, "validation", figures, seconds)


def evaluation(
    graph: Graph,
    policy: Policy,
    counts: tuple[int, int],
    split: SplitName,
    figures: Figures,
    seconds: float = 0.0,
) -> Evaluation:
    """Put together what is known of one policy and its program; `counts` are (correct, all)."""
    return Evaluation(
        accuracy=ratio(counts),
        samples=counts[1],
        split=split,
        macs=sum(policy_macs(graph, policy).values()),
        bops=sum(policy_bops(graph, policy).values()),
        size_bytes=figures.size_bytes,
        latency_ms=figures.latency_ms,
        energy_mj=figures.energy_mj,
        artifact=figures.artifact,
        measurements=(figures.measurement,),
        verdict=figures.verdict,
        seconds=seconds,
    )


def seed_of(policy: Policy, seed: int) -> int:
    """Return a seed for one policy, the same in every process and after every resume."""
    return (int(policy.digest()[:15], 16) ^ seed) % (1 << SEED_BITS)
