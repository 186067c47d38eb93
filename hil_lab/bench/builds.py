"""How long a build takes: from nothing, with a known structure, and after a change of two layers.

Everything is measured in this process with an object cache of its own, so that nothing is warm by
chance.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hil_lab.bench.networks import BenchNetwork
from hil_lab.console import Reporter
from host.graph import trace_with_plan
from host.lower.build import Builder
from host.lower.objects import ObjectCache
from host.lower.targets import TARGETS, refusal
from host.policy import Choice, Policy, Space
from host.search.actions import choice
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
        wishes = _draw(graph.layers, space, rng)
        base = space.policy(wishes)
        changes = [changed(wishes, space, rng) for _ in range(repeats)]
        samples: list[tuple[float, int]] = []
        upload_bytes = 0
        total = 1 + 2 * repeats
        with reporter.progress("build", f"{bench.name} for {target}", total) as advance:
            for policy in (base, *[base] * repeats, *changes):
                before, start = cache.compiled, time.perf_counter()
                artifact = builder.build(network, policy, root / str(len(samples)))
                samples.append((time.perf_counter() - start, cache.compiled - before))
                shipped = sum(blob.size_bytes for blob in artifact.blobs(weights=False))
                upload_bytes = max(upload_bytes, shipped)
                advance(len(samples), f"{samples[-1][0]:.2f} s")
        (cold_s, *rest), (_, *compiled) = zip(*samples, strict=True)
        return BuildTimes(
            bench.name,
            target,
            cold_s,
            known_s=tuple(rest[:repeats]),
            changed_s=tuple(rest[repeats:]),
            compiled=tuple(compiled[repeats:]),
            upload_bytes=upload_bytes,
        )


def changed(wishes: dict[str, Choice], space: Space, rng: np.random.Generator) -> Policy:
    """Return a policy that differs from that of the wishes in exactly two layers."""
    base = space.policy(wishes)
    layers = space.graph.layers
    for _ in range(ATTEMPTS):
        picked = rng.choice(len(layers), CHANGED_LAYERS, replace=False)
        new = _draw([layers[i] for i in picked], space, rng)
        policy = space.policy({**wishes, **new})
        differing = sum(a != b for a, b in zip(base.layers, policy.layers, strict=True))
        if differing == CHANGED_LAYERS:
            return policy
    raise ValueError("no policy differs in exactly two layers")


def _draw(layers: Sequence[Layer], space: Space, rng: np.random.Generator) -> dict[str, Choice]:
    """Draw a format and a width for each layer, as the random strategy does."""
    return {layer.name: choice("joint", rng.random(3), layer, space) for layer in layers}
