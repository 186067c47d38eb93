"""From a compressed network and its policy to an artifact directory: the lowering's entry."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from host.artifact import FORMAT, RUNTIME_ABI, Artifact
from host.canonical import digest
from host.lower.fuse import fuse
from host.lower.golden import golden_arrays
from host.lower.importer import import_module
from host.lower.kernels.kernel import symbol
from host.lower.link import ENTRY, link
from host.lower.narrow import CannotNarrow, narrow
from host.lower.objects import ObjectCache, write_atomically
from host.lower.plan import Call, Plan
from host.lower.program import Program
from host.lower.select import select
from host.lower.storage import row
from host.lower.targets import Target
from host.lower.weights import pack
from host.policy import Policy, program_digest
from host.types import Graph

# Bumped when the graph or the calling convention of a library changes.
LIBRARY_VERSION = 2
_PROGRAMS_KEPT = 512
MakeNetwork = Callable[[], nn.Module]


@dataclass
class Builder:
    """Builds artifacts for one network; keeps what policies share: traces, kernels, libraries."""

    graph: Graph
    target: Target
    threads: int = 1
    cache: ObjectCache = field(default_factory=ObjectCache)
    # The uncompressed network: traced once, the programs of all policies are derived from it.
    source: nn.Module | None = None
    # Its operations, where they are known and there is no network to trace.
    traced: Program | None = None
    _programs: dict[str, Program] = field(default_factory=dict)

    def plan(self, network: nn.Module, policy: Policy) -> Plan:
        """Return the plan of a compressed network; policies of equal widths share a program."""
        return self._plan(lambda: network, policy)

    def plan_traced(self, policy: Policy, make: MakeNetwork | None = None) -> Plan:
        """Return the plan of a policy's program from what was traced, or else from its network."""
        return self._plan(make or _no_network, policy)

    def size_bytes(self, policy: Policy, make: MakeNetwork) -> int:
        """Return what the artifact of a policy will hold in packed weights, scales and tables.

        Nothing is compiled; `make` gives the compressed network, for those that must be traced.
        """
        return sum(self.layer_bytes(policy, make).values())

    def layer_bytes(self, policy: Policy, make: MakeNetwork) -> dict[str, int]:
        """Return the same bytes layer by layer, under "" those that belong to none."""
        found: dict[str, int] = {}
        for weight in self._plan(make, policy).weights:
            packed = row(weight)
            layer = packed["layer"] or ""
            found[layer] = found.get(layer, 0) + int(packed["bytes"])
        return found

    def _plan(self, make: MakeNetwork, policy: Policy) -> Plan:
        widths = digest([[p.layer, p.keep] for p in policy.layers])
        if widths not in self._programs:
            # A search that asks for many sizes must not fill the memory with programs.
            if len(self._programs) >= _PROGRAMS_KEPT:
                self._programs.pop(next(iter(self._programs)))
            self._programs[widths] = fuse(self._program(make, policy))
        return select(self._programs[widths], policy, self.target)

    @cached_property
    def _full(self) -> Program | None:
        if self.source is None:
            return self.traced
        return import_module(self.source, self.graph.input_shape)

    def _program(self, make: MakeNetwork, policy: Policy) -> Program:
        """Narrow the full program, or trace the network where that cannot be done."""
        if self._full is not None:
            try:
                return narrow(self._full, {p.layer: p.keep for p in policy.layers})
            except CannotNarrow:
                pass
        return import_module(make(), self.graph.input_shape)

    def build(
        self,
        network: nn.Module,
        policy: Policy,
        out: Path,
        *,
        sample: np.ndarray | None = None,
    ) -> Artifact:
        """Write the artifact of a compressed network.

        `sample` [1, C, H, W] float32 becomes the golden input; without it the artifact serves
        latency alone and holds no weights.
        """
        return self.write(self.plan(network, policy), policy, out, network, sample)

    def write(
        self,
        plan: Plan,
        policy: Policy,
        out: Path,
        network: nn.Module | None = None,
        sample: np.ndarray | None = None,
    ) -> Artifact:
        """Write the artifact of a plan; with a network and a sample, weights and answers too."""
        library = self.library(plan)
        rows = [row(weight) for weight in plan.weights]
        blobs: dict[str, bytes] = {}
        golden = None
        if network is not None and sample is not None:
            packed = [pack(weight, network) for weight in plan.weights]
            rows = [w.row for w in packed]
            blobs = {w.row["digest"]: w.data for w in packed}
            data = _npz(golden_arrays(network, policy, sample))
            name = hashlib.sha256(data).hexdigest()
            golden = {"digest": name, "bytes": len(data)}
            blobs[name] = data
        manifest = self._manifest(plan, policy, library, rows, golden)
        return _write(out, manifest, blobs, library)

    def library(self, plan: Plan) -> Path:
        """Return the linked library of a plan, from the cache where an equal one was linked."""
        calls = [
            [symbol(c.kernel, self.target), [asdict(a) for a in c.arguments], c.out]
            for c in plan.calls
        ]
        ends = [plan.input_shape, asdict(plan.output), [[w.shape, w.dtype] for w in plan.weights]]
        name = digest([LIBRARY_VERSION, self.target.name, calls, ends])
        path = self.cache.root / "libraries" / self.target.name / name[:2] / f"{name}.so"
        if not path.exists():
            objects = self.cache.objects((c.kernel for c in plan.calls), self.target)
            with tempfile.TemporaryDirectory() as scratch:
                write_atomically(
                    path, lambda p: link(plan, self.target, objects.values(), p, Path(scratch))
                )
        return path

    def _manifest(
        self,
        plan: Plan,
        policy: Policy,
        library: Path,
        rows: Sequence[Mapping[str, Any]],
        golden: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        data = library.read_bytes()
        return {
            "format": FORMAT,
            "target": self.target.name,
            "arch": self.target.arch,
            "abi": RUNTIME_ABI,
            "model": self.graph.name,
            "policy": policy.digest(),
            "structure": program_digest(self.graph, policy, self.target.name, self.threads),
            "threads": self.threads,
            "library": {"digest": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
            "entry": ENTRY,
            "inputs": [{"name": "x", "shape": list(plan.input_shape), "dtype": "float32"}],
            "outputs": [{"name": "logits", "shape": list(plan.output.shape), "dtype": "float32"}],
            "kernels": self.rows(plan, policy),
            "weights": list(rows),
            "golden": dict(golden) if golden else None,
        }

    def rows(self, plan: Plan, policy: Policy) -> list[dict[str, Any]]:
        """Return the kernel table of a plan, a row per call; nothing is compiled for it."""
        return [self._row(call, policy) for call in plan.calls]

    def _row(self, call: Call, policy: Policy) -> dict[str, Any]:
        form = next((p for p in policy.layers if p.layer == call.layer), None)
        return {
            "call": symbol(call.kernel, self.target),
            "layer": call.layer,
            "kind": call.kernel.kind,
            **asdict(call.kernel.cost()),
            "weight_bits": form.weight_bits if form else 32,
            "act_bits": form.act_bits if form else 32,
            "accumulates": call.accumulates,
            "writes": _writes(call),
            "shape": {"out": list(call.kernel.out_shape)},
        }


def _no_network() -> nn.Module:
    raise ValueError("nothing was traced that could be narrowed, and there is no network")


def _writes(call: Call) -> dict[str, Any] | None:
    """Return whose codes a call writes, and how they lie."""
    if call.writes is None:
        return None
    codes = call.writes.codes
    rows, columns = codes.padding
    return {
        "layer": call.writes.layer,
        "shape": [codes.height + 2 * rows, codes.width + 2 * columns, codes.channels],
        "padding": [rows, columns],
        "pixel_bytes": codes.pixel,
        "offset": codes.offset,
    }


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _write(
    out: Path, manifest: Mapping[str, Any], blobs: Mapping[str, bytes], library: Path
) -> Artifact:
    folder = out / "blobs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in blobs.items():
        if not (folder / name).exists():
            write_atomically(folder / name, partial(_put, data))
    target = folder / manifest["library"]["digest"]
    if not target.exists():
        write_atomically(target, partial(_copy, library))
    text = json.dumps(manifest, indent=1)
    write_atomically(out / "manifest.json", partial(_put, text.encode()))
    return Artifact(out, manifest)


def _put(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def _copy(source: Path, path: Path) -> None:
    shutil.copyfile(source, path)
