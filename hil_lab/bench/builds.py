"""How long a build takes: from nothing, with a known structure, and after a change of two layers.

Everything is measured in this process with an object cache of its own, so that nothing is warm by
chance.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from hil_lab.bench.networks import BenchNetwork
from hil_lab.console import Reporter
from host.graph import trace_with_plan
from host.lower.build import Builder
from host.lower.objects import ObjectCache
from host.lower.targets import TARGETS, refusal
from host.policy import FULL_BITS, INT8_BITS, Choice, Policy, Space
from host.types import Layer

CHANGED_LAYERS = 2
ATTEMPTS = 200


@dataclass(frozen=True)
class BuildTimes:
    """Seconds from a policy to a loadable latency-only artifact; every sample is kept.

    `cold_s` starts with empty caches and the network untraced; `compiled` are the kernels compiled
    for each change; `upload_bytes` is what a latency-only measurement ships.
    """

    network: str
    target: str
    cold_s: float
    known_s: tuple[float, ...]
    changed_s: tuple[float, ...]
    compiled: tuple[int, ...]
    upload_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the samples and their medians as JSON."""
        return asdict(self) | {
            "known_median_s": statistics.median(self.known_s),
            "changed_median_s": statistics.median(self.changed_s),
            "compiled_median": statistics.median(self.compiled),
        }


class _Timed:
    """Builds policies of one network one after the other."""

    def __init__(self, network: nn.Module, builder: Builder, folder: Path) -> None:
        self.network, self.builder, self.folder = network, builder, folder
        self.count = 0
        self.upload_bytes = 0

    def build(self, policy: Policy) -> tuple[float, int]:
        """Return the seconds of one build and how many kernels it compiled."""
        self.count += 1
        before = self.builder.cache.compiled
        start = time.perf_counter()
        artifact = self.builder.build(self.network, policy, self.folder / str(self.count))
        seconds = time.perf_counter() - start
        self.upload_bytes = max(
            self.upload_bytes, sum(blob.size_bytes for blob in artifact.blobs(weights=False))
        )
        return seconds, self.builder.cache.compiled - before


def time_builds(
    bench: BenchNetwork, target: str, repeats: int, seed: int, reporter: Reporter
) -> BuildTimes:
    """Measure the builds of one network."""
    rng = np.random.default_rng(seed)
    network = bench.make()
    graph, _ = trace_with_plan(network, bench.name, bench.input_shape, bench.classes)
    space = Space(graph, refusal)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cache = ObjectCache(root / "cache")
        builder = Builder(graph, TARGETS[target](), cache=cache, source=network)
        timed = _Timed(network, builder, root / "artifacts")
        wishes = {layer.name: _wish(layer, space, rng) for layer in graph.layers}
        with reporter.progress("build", f"{bench.name} for {target}", 1 + 2 * repeats) as advance:
            cold_s, _ = timed.build(space.policy(wishes))
            advance(1, "")
            known = []
            for i in range(repeats):
                known.append(timed.build(space.policy(wishes))[0])
                advance(2 + i, "")
            changes = []
            for i in range(repeats):
                changes.append(timed.build(changed(wishes, space, rng)))
                advance(2 + repeats + i, f"{statistics.median(s for s, _ in changes):.2f} s")
        seconds, compiled = zip(*changes, strict=True)
        return BuildTimes(
            bench.name, target, cold_s, tuple(known), seconds, compiled, timed.upload_bytes
        )


def changed(wishes: dict[str, Choice], space: Space, rng: np.random.Generator) -> Policy:
    """Return a policy that differs from that of the wishes in exactly two layers."""
    base = space.policy(wishes)
    layers = space.graph.layers
    for _ in range(ATTEMPTS):
        picked = rng.choice(len(layers), CHANGED_LAYERS, replace=False)
        new = {layers[i].name: _wish(layers[i], space, rng) for i in picked}
        policy = space.policy({**wishes, **new})
        differing = sum(a != b for a, b in zip(base.layers, policy.layers, strict=True))
        if differing == CHANGED_LAYERS:
            return policy
    raise ValueError("no policy differs in exactly two layers")


def _wish(layer: Layer, space: Space, rng: np.random.Generator) -> Choice:
    """Draw a legal format and width."""
    mode = str(rng.choice(sorted(space.modes(layer))))
    keep = int(rng.choice(space.keep_levels(layer))) if space.prunable(layer) else None
    if mode == "mix":
        weight_bits, act_bits = (int(b) for b in rng.integers(1, space.max_mix_bits + 1, 2))
        return Choice(keep, "mix", weight_bits, act_bits)
    bits = INT8_BITS if mode == "int8" else FULL_BITS
    return Choice(keep, mode, bits, bits)  # type: ignore[arg-type]
