"""Whole networks against the runtimes a user would otherwise pick: one process, interleaved.

Every round runs each contender once in turn, so that what slows the machine slows all of them;
ratios are of medians.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tvm
from torch import nn

from device_agent.program import Program
from device_agent.values import Job
from hil_lab.bench.networks import NETWORKS, BenchNetwork, chosen
from hil_lab.bench.peers import (
    FP32_PEERS,
    INT8_PEERS,
    PeerUnavailable,
    Runner,
    prepared,
    torch_eager,
)
from hil_lab.bench.report import Options, Report, Show, Table, number, over
from hil_lab.console import Reporter
from host.graph import trace_with_plan
from host.lower.build import Builder
from host.lower.targets import local_target, refusal
from host.policy import Policy, Space, uncompressed, uniform_int8

OURS, OURS_INT8 = "hil-lab", "hil-lab int8"
WARM_UP_ROUNDS, DEFAULT_ROUNDS = 5, 30
RATIOS = ("fp32 / best", "int8 / best", "int8 / fp32")


@dataclass(frozen=True)
class ModelTimes:
    """Milliseconds of every round by contender; `unavailable` says why one is missing.

    `error` is the distance from PyTorch as a share of the outputs' range, for fp32 contenders.
    """

    network: str
    threads: int
    samples_ms: dict[str, tuple[float, ...]]
    error: dict[str, float]
    unavailable: dict[str, str]

    @property
    def median_ms(self) -> dict[str, float]:
        """Median milliseconds by contender."""
        return {name: statistics.median(values) for name, values in self.samples_ms.items()}

    def ratio(self, ours: str, peers: list[str]) -> float | None:
        """Return how many times faster we are than the best of some peers, None without any."""
        medians = self.median_ms
        present = [medians[name] for name in peers if name in medians]
        return min(present) / medians[ours] if present and ours in medians else None

    @property
    def fp32_ratio(self) -> float | None:
        """How many times faster our fp32 is than the best peer's."""
        return self.ratio(OURS, list(FP32_PEERS))

    @property
    def int8_ratio(self) -> float | None:
        """How many times faster our int8 is than the best peer's."""
        return self.ratio(OURS_INT8, list(INT8_PEERS))

    @property
    def int8_over_fp32(self) -> float | None:
        """How many times faster our int8 is than our fp32."""
        return self.ratio(OURS_INT8, [OURS])

    def to_dict(self) -> dict[str, Any]:
        """Return samples, medians and ratios as JSON."""
        derived = ("median_ms", "fp32_ratio", "int8_ratio", "int8_over_fp32")
        return asdict(self) | {name: getattr(self, name) for name in derived}

    def row(self, names: Sequence[str]) -> list[str]:
        """Return the medians of some contenders and the ratios as a line of a table."""
        medians = [number(self.median_ms.get(name)) for name in names]
        ratios = (self.fp32_ratio, self.int8_ratio, self.int8_over_fp32)
        return [self.network, *medians, *(number(ratio) for ratio in ratios)]


def report(options: Options) -> Report:
    """Time some networks on every runtime there is."""
    networks = chosen(options.networks)
    rounds, threads = options.rounds or DEFAULT_ROUNDS, (options.threads or (1,))[0]
    times = [time_models(n, threads, rounds, options.reporter) for n in networks]
    names = list(dict.fromkeys(name for t in times for name in t.median_ms))
    reasons = dict.fromkeys(reason for t in times for reason in t.unavailable.values())
    return Report(
        samples={"models": [t.to_dict() for t in times]},
        tables=[Table(("ms", *names, *RATIOS), [t.row(names) for t in times])],
        shows=list(shows(times, networks)),
        missing=list(reasons),
    )


def shows(times: Sequence[ModelTimes], networks: Sequence[BenchNetwork]) -> Iterator[Show]:
    """Yield the bars on ratios of medians; those without a network that has both are left out."""
    convolutional = {n.name for n in networks if n.convolutional}
    fp32 = _known(t.fp32_ratio for t in times)
    int8 = _known(t.int8_ratio for t in times)
    ours = _known(t.int8_over_fp32 for t in times if t.network in convolutional)
    where = over(networks, NETWORKS)
    for name, ratios, reduced, bar in (
        ("fp32 over the best peer, geometric mean", fp32, statistics.geometric_mean, 1.1),
        ("fp32 over the best peer, least", fp32, min, 0.85),
        ("int8 over onnxruntime's, geometric mean", int8, statistics.geometric_mean, 1.0),
        ("our int8 over our fp32, least of the convolutional", ours, min, 1.8),
    ):
        if ratios:
            yield Show(name + where, reduced(ratios), "", bar)


def _known(ratios: Iterable[float | None]) -> list[float]:
    return [ratio for ratio in ratios if ratio is not None]


def time_models(bench: BenchNetwork, threads: int, rounds: int, reporter: Reporter) -> ModelTimes:
    """Time a network on every runtime there is."""
    network, sample = bench.make(), bench.sample()
    expected = torch_eager(network, sample, threads)()
    runners: dict[str, Runner] = {}
    unavailable: dict[str, str] = {}
    peers = [(name, registry[name]) for registry in (FP32_PEERS, INT8_PEERS) for name in registry]
    total = 2 + len(peers) + rounds
    with reporter.progress("models", f"{bench.name}, {threads} threads", total) as advance:
        runners |= _ours(bench, network, sample, threads)
        for name, prepare in peers:
            advance(len(runners) + len(unavailable), f"preparing {name}")
            try:
                runners[name] = prepared(name, prepare, network, sample, threads)
            except PeerUnavailable as e:
                unavailable[name] = str(e)
        error = {
            name: _distance(run(), expected) for name, run in runners.items() if "int8" not in name
        }
        samples = _interleaved(runners, rounds, lambda n: advance(total - rounds + n, ""))
    return ModelTimes(bench.name, threads, samples, error, unavailable)


def _interleaved(
    runners: dict[str, Runner], rounds: int, on_round: Callable[[int], None]
) -> dict[str, tuple[float, ...]]:
    samples: dict[str, list[float]] = {name: [] for name in runners}
    for done in range(WARM_UP_ROUNDS + rounds):
        for name, run in runners.items():
            start = time.perf_counter_ns()
            run()
            took_ms = (time.perf_counter_ns() - start) / 1e6
            if done >= WARM_UP_ROUNDS:
                samples[name].append(took_ms)
        on_round(max(done + 1 - WARM_UP_ROUNDS, 0))
    return {name: tuple(values) for name, values in samples.items()}


def _ours(
    bench: BenchNetwork, network: nn.Module, sample: torch.Tensor, threads: int
) -> dict[str, Runner]:
    """Build our fp32 program with its weights, and the int8 one with made-up ones."""
    graph, _ = trace_with_plan(network, bench.name, bench.input_shape, bench.classes)
    builder = Builder(graph, local_target(), threads, source=network)
    tvm.get_global_func("runtime.config_threadpool")(1, threads)
    programs = {
        OURS: uncompressed(graph),
        OURS_INT8: uniform_int8(Space(graph, refusal)),
    }
    return {
        name: _program(builder, network, policy, sample.numpy(), with_weights=name == OURS)
        for name, policy in programs.items()
    }


def _program(
    builder: Builder, network: nn.Module, policy: Policy, image: np.ndarray, *, with_weights: bool
) -> Runner:
    """Load a program as the agent does, into this process."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        artifact = builder.build(network, policy, root, sample=image if with_weights else None)
        job = Job(artifact.manifest, root / "blobs", synthetic=not with_weights)
        return partial(Program(job).run, image)


def _distance(values: np.ndarray, expected: np.ndarray) -> float:
    span = float(expected.max() - expected.min()) or 1.0
    return float(np.abs(values.reshape(expected.shape) - expected).max()) / span
