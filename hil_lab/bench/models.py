"""Whole networks against the runtimes a user would otherwise pick: one process, interleaved.

Every round runs each contender once in turn, so that what slows the machine slows all of them;
ratios are of medians.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
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
from hil_lab.bench.networks import BenchNetwork
from hil_lab.bench.peers import (
    FP32_PEERS,
    INT8_PEERS,
    PeerUnavailable,
    Runner,
    prepared,
    torch_eager,
)
from hil_lab.console import Reporter
from host.graph import trace_with_plan
from host.lower.build import Builder
from host.lower.targets import local_target, refusal
from host.policy import Policy, Space, uncompressed, uniform_int8

OURS, OURS_INT8 = "hil-lab", "hil-lab int8"
WARM_UP_ROUNDS = 5


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

    def to_dict(self) -> dict[str, Any]:
        """Return samples, medians and ratios as JSON."""
        return asdict(self) | {
            "median_ms": self.median_ms,
            "fp32_ratio": self.ratio(OURS, list(FP32_PEERS)),
            "int8_ratio": self.ratio(OURS_INT8, list(INT8_PEERS)),
            "int8_over_fp32": self.ratio(OURS_INT8, [OURS]),
        }


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
    for number in range(WARM_UP_ROUNDS + rounds):
        for name, run in runners.items():
            start = time.perf_counter_ns()
            run()
            took_ms = (time.perf_counter_ns() - start) / 1e6
            if number >= WARM_UP_ROUNDS:
                samples[name].append(took_ms)
        on_round(max(number + 1 - WARM_UP_ROUNDS, 0))
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
