"""Whole networks against the runtimes a user would otherwise pick: one process, interleaved.

Every round gives each contender its turn, so that what slows the machine slows all of them; ratios
are of medians.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from device_agent.program import Program
from hil_lab.bench.interleave import turns
from hil_lab.bench.networks import NETWORKS, BenchNetwork, chosen
from hil_lab.bench.own import loaded, reserve_threads, use_threads
from hil_lab.bench.peers import (
    FP32_PEERS,
    INT8_PEERS,
    PeerUnavailable,
    Runner,
    Threaded,
    explained,
    torch_eager,
)
from hil_lab.bench.report import Options, Report, Show, Table, number, over
from hil_lab.console import Advance, Reporter
from host.graph import trace_unpruned
from host.lower.build import Builder
from host.lower.targets import local_target, refusal
from host.policy import Space, uncompressed, uniform_int8

OURS, OURS_INT8 = "hil-lab", "hil-lab int8"
DEFAULT_ROUNDS, MOST_THREADS = 30, 2
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
        return [self.network, f"{self.threads}", *medians, *(number(ratio) for ratio in ratios)]


def report(options: Options) -> Report:
    """Time some networks on every runtime there is."""
    networks = chosen(options.networks)
    rounds = options.rounds or DEFAULT_ROUNDS
    threads = options.threads or tuple(range(1, min(MOST_THREADS, os.cpu_count() or 1) + 1))
    times = [t for n in networks for t in time_models(n, threads, rounds, options.reporter)]
    names = list(dict.fromkeys(name for t in times for name in t.median_ms))
    reasons = dict.fromkeys(reason for t in times for reason in t.unavailable.values())
    return Report(
        samples={"models": [t.to_dict() for t in times]},
        tables=[Table(("ms", "threads", *names, *RATIOS), [t.row(names) for t in times])],
        shows=list(shows([t for t in times if t.threads == min(threads)], networks)),
        missing=list(reasons),
    )


def shows(times: Sequence[ModelTimes], networks: Sequence[BenchNetwork]) -> Iterator[Show]:
    """Yield the bars on ratios of medians; those without a network that has both are left out."""
    convolutional = {n.name for n in networks if n.convolutional}
    fp32 = _known(t.fp32_ratio for t in times)
    int8 = _known(t.int8_ratio for t in times)
    ours = _known(t.int8_over_fp32 for t in times if t.network in convolutional)
    threads = times[0].threads
    where = f", {threads} thread{'s' if threads > 1 else ''}{over(networks, NETWORKS)}"
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


def time_models(
    bench: BenchNetwork, threads: Sequence[int], rounds: int, reporter: Reporter
) -> list[ModelTimes]:
    """Time a network on every runtime there is, for each number of threads in turn."""
    reserve_threads(max(threads))
    network, sample = bench.make(), bench.sample()
    expected = torch_eager(network, sample)(1)()
    contenders: dict[str, Threaded] = _ours(bench, network, sample)
    unavailable: dict[str, str] = {}
    peers = [(name, registry[name]) for registry in (FP32_PEERS, INT8_PEERS) for name in registry]
    total = len(peers) + rounds * len(threads)
    with reporter.progress("models", bench.name, total) as advance:
        for done, (name, prepare) in enumerate(peers):
            advance(done, f"preparing {name}")
            try:
                with explained(name):
                    contenders[name] = prepare(network, sample)
            except PeerUnavailable as e:
                unavailable[name] = str(e)
        times = []
        for turn, count in enumerate(threads):
            runners, failed = _ready(contenders, count)
            error = {n: _distance(run(), expected) for n, run in runners.items() if not _int8(n)}
            first = len(peers) + turn * rounds
            samples = turns(count, rounds).samples_ms(runners, partial(_shifted, advance, first))
            times.append(ModelTimes(bench.name, count, samples, error, unavailable | failed))
    return times


def _shifted(advance: Advance, first: int, done: int) -> None:
    advance(first + done, "")


def _ready(
    contenders: Mapping[str, Threaded], threads: int
) -> tuple[dict[str, Runner], dict[str, str]]:
    """Return what runs with so many threads, each of which has run once, and what does not."""
    runners: dict[str, Runner] = {}
    failed: dict[str, str] = {}
    for name, threaded in contenders.items():
        try:
            with explained(name):
                run = threaded(threads)
                run()
                runners[name] = run
        except PeerUnavailable as e:
            failed[name] = str(e)
    return runners, failed


def _int8(name: str) -> bool:
    return name == OURS_INT8 or name in INT8_PEERS


def _ours(bench: BenchNetwork, network: nn.Module, sample: torch.Tensor) -> dict[str, Threaded]:
    """Build our fp32 program with its weights, and the int8 one with made-up ones."""
    graph = trace_unpruned(network, bench.name, bench.input_shape, bench.classes)
    builder = Builder(graph, local_target(), source=network)
    policies = {OURS: uncompressed(graph), OURS_INT8: uniform_int8(Space(graph, refusal))}
    image = sample.numpy()
    return {
        name: _threaded(loaded(builder, network, policy, image if name == OURS else None), image)
        for name, policy in policies.items()
    }


def _threaded(program: Program, image: np.ndarray) -> Threaded:
    def threaded(threads: int) -> Runner:
        use_threads(threads)
        return program.bound(image)

    return threaded


def _distance(output: Any, expected: np.ndarray) -> float:
    span = float(expected.max() - expected.min()) or 1.0
    return float(np.abs(np.from_dlpack(output).reshape(expected.shape) - expected).max()) / span
