"""How long a build takes: from nothing, with a known structure, and after a change of two layers.

Everything is measured in this process with an object cache of its own, so that nothing is warm by
chance.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from hil_lab.bench.networks import BenchNetwork, chosen
from hil_lab.bench.report import Options, Report, Show, Table
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
DEFAULT_NETWORK, DEFAULT_ROUNDS = "resnet18-cifar", 10


@dataclass(frozen=True)
class BuildTimes:
    """Seconds from a policy to a loadable latency-only artifact; every sample is kept.

    `cold_s` starts with empty caches and the network untraced; `compiled` are the kinds of the
    kernels compiled for each change, those of the changed layers' readers among them, and
    `products` how many of them multiply; `upload_bytes` is what a latency-only measurement ships.
    """

    network: str
    target: str
    cold_s: float
    known_s: tuple[float, ...]
    changed_s: tuple[float, ...]
    compiled: tuple[tuple[str, ...], ...]
    products: tuple[int, ...]
    upload_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the samples and their medians as JSON."""
        return asdict(self) | {
            "known_median_s": statistics.median(self.known_s),
            "changed_median_s": statistics.median(self.changed_s),
            "compiled_median": statistics.median(self.counts),
        }

    @property
    def counts(self) -> list[int]:
        """How many kernels each change compiled."""
        return [len(kinds) for kinds in self.compiled]

    def row(self) -> list[str]:
        """Return the medians as a line of a table."""
        return [
            self.network,
            f"{self.cold_s:.2f} s",
            f"{statistics.median(self.known_s):.3f} s",
            f"{statistics.median(self.changed_s):.2f} s",
            f"{statistics.median(self.counts):g} ({max(self.counts)} at most)",
            f"{self.upload_bytes / 1000:.0f} kB",
        ]

    def shows(self) -> Iterator[Show]:
        """Yield the bars on builds, and what a change compiled in full beside them."""
        where = f" ({self.network}, {self.target})"
        changed, known = statistics.median(self.changed_s), statistics.median(self.known_s)
        yield Show(f"two layers changed, median{where}", changed, "s", 1.0, "at most")
        yield Show(f"known structure, median{where}", known, "s", 0.3, "at most")
        yield Show(f"cold{where}", self.cold_s, "s", 6.0, "at most")
        name = f"kernels compiled for two changed layers{where}"
        for which, counts in (("", self.counts), (", products alone", self.products)):
            bar = None if which else CHANGED_LAYERS
            yield Show(f"{name}{which}, most", max(counts), "", bar, "at most")
            yield Show(f"{name}{which}, median", statistics.median(counts), "")
        upload = self.upload_bytes / 1e6
        yield Show(f"upload of a latency-only measurement{where}", upload, "MB", 1.0, "at most")


COLUMNS = (
    "network", "cold", "known structure", "2 layers changed", "kernels compiled", "upload",
)  # fmt: skip


def report(options: Options) -> Report:
    """Time the builds of some networks, ResNet-18 for no names."""
    networks = chosen(options.networks or [DEFAULT_NETWORK])
    rounds = options.rounds or DEFAULT_ROUNDS
    builds = [time_builds(n, options.target, rounds, 1, options.reporter) for n in networks]
    return Report(
        samples={"builds": [b.to_dict() for b in builds]},
        tables=[Table(COLUMNS, [b.row() for b in builds])],
        shows=[show for b in builds for show in b.shows()],
    )


def time_builds(
    bench: BenchNetwork, target: str, repeats: int, seed: int, reporter: Reporter
) -> BuildTimes:
    """Measure the builds of one network."""
    rng = np.random.default_rng(seed)
    network = bench.make()
    graph, _ = trace_with_plan(network, bench.name, bench.input_shape, bench.classes)
    space = Space(graph, refusal)
    wishes = _draw(graph.layers, space, rng)
    base = space.policy(wishes)
    changes = [changed(wishes, space, rng) for _ in range(repeats)]
    builds: list[_Build] = []
    seen: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cache = ObjectCache(root / "cache")
        builder = Builder(graph, TARGETS[target](), cache=cache, source=network)
        total = 1 + 2 * repeats
        with reporter.progress("build", f"{bench.name} for {target}", total) as advance:
            for policy in (base, *[base] * repeats, *changes):
                builds.append(_build(builder, network, policy, root / str(len(builds)), seen))
                advance(len(builds), f"{builds[-1].took_s:.2f} s")
    cold, known, differing = builds[0], builds[1 : repeats + 1], builds[repeats + 1 :]
    return BuildTimes(
        bench.name,
        target,
        cold.took_s,
        known_s=tuple(b.took_s for b in known),
        changed_s=tuple(b.took_s for b in differing),
        compiled=tuple(b.compiled for b in differing),
        products=tuple(b.products for b in differing),
        upload_bytes=max(b.upload_bytes for b in builds),
    )


@dataclass(frozen=True, slots=True)
class _Build:
    """One build: kinds of the kernels that were new, and how many of them multiply."""

    took_s: float
    compiled: tuple[str, ...]
    products: int
    upload_bytes: int


def _build(
    builder: Builder, network: nn.Module, policy: Policy, out: Path, seen: set[str]
) -> _Build:
    """Time one build; `seen` are the kernels of those before it."""
    start = time.perf_counter()
    artifact = builder.build(network, policy, out)
    took_s = time.perf_counter() - start
    rows = {row["call"]: row for row in artifact.manifest["kernels"]}
    new = [row for call, row in rows.items() if call not in seen]
    seen.update(rows)
    return _Build(
        took_s,
        tuple(row["kind"] for row in new),
        sum(row["macs"] > 0 for row in new),
        sum(blob.size_bytes for blob in artifact.blobs(weights=False)),
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
