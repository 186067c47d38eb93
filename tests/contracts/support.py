"""Fakes and tiny artifacts for everything that talks to a board; no test lives here."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.errors import Cancelled
from device_agent.measure import Machine
from device_agent.runner import OnPhase
from device_agent.values import Identity, Job
from host.artifact import Artifact
from protos.values import (
    Block,
    Conditions,
    Counter,
    KernelTiming,
    LayerCheck,
    Profile,
    TimingPlan,
    VerifyReport,
)

HERE = Path(__file__).parent
ARCH = platform.machine()
ROW = {
    "layer": "",
    "macs": 0,
    "ops": 0,
    "bytes_read": 256,
    "bytes_written": 40,
    "weight_bytes": 0,
    "weight_bits": 32,
    "act_bits": 32,
    "accumulates": False,
    "writes": None,
    "shape": {},
}


def compile_tiny(folder: Path) -> None:
    """Compile plain.so and quantized.so into a folder, with TVM in its own process."""
    subprocess.run([sys.executable, HERE / "compile_tiny.py", folder], check=True)


def weight(name: str, array: np.ndarray, **more: Any) -> tuple[dict[str, Any], bytes]:
    """Return a raw row of the weight table and its bytes."""
    row = {"name": name, "layer": "layer", "dtype": array.dtype.name, "shape": list(array.shape)}
    return {**row, "encoding": "raw", **more}, array.tobytes()


def write_artifact(
    root: Path,
    library: bytes,
    kernels: list[dict[str, Any]],
    weights: list[tuple[dict[str, Any], bytes]],
    golden: dict[str, np.ndarray] | None,
    **more: Any,
) -> Artifact:
    """Write an artifact directory around a library and load it."""
    (root / "blobs").mkdir(parents=True)

    def blob(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (root / "blobs" / digest).write_bytes(data)
        return {"digest": digest, "bytes": len(data)}

    packed = io.BytesIO()
    if golden:
        np.savez(packed, **golden)
    manifest = {
        "format": 2,
        "target": ARCH,
        "arch": ARCH,
        "abi": 1,
        "model": "tiny",
        "policy": "policy",
        "structure": "structure",
        "threads": 1,
        "library": blob(library),
        "entry": "main",
        "inputs": [{"name": "x", "shape": [1, 64], "dtype": "float32"}],
        "outputs": [{"name": "y", "shape": [1, 10], "dtype": "float32"}],
        "kernels": [{**ROW, **kernel} for kernel in kernels],
        "weights": [{**row, **blob(data)} for row, data in weights],
        "golden": blob(packed.getvalue()) if golden else None,
        **more,
    }
    (root / "manifest.json").write_text(json.dumps(manifest))
    return Artifact.load(root)


def plain_arrays() -> tuple[np.ndarray, np.ndarray]:
    """Return the golden input and the weights of the plain program."""
    rng = np.random.default_rng(0)
    return rng.random((1, 64), dtype=np.float32), rng.random((64, 10), dtype=np.float32) - 0.5


def plain_reference(x: np.ndarray) -> np.ndarray:
    """Compute what the plain program does."""
    return np.maximum(x @ plain_arrays()[1], 0)


def plain_artifact(root: Path, library: bytes, **more: Any) -> Artifact:
    """Write the artifact of relu(x w) around a library."""
    x, w = plain_arrays()
    kernels = [
        {"call": "matmul", "layer": "layer", "kind": "dense_fp32", "macs": 640_000},
        {"call": "relu", "kind": "elementwise", "ops": 10},
    ]
    golden = {"input": x, "output": plain_reference(x)}
    return write_artifact(root, library, kernels, [weight("w", w)], golden, **more)


def quantized_artifact(
    root: Path, library: bytes, spoil: Callable[[dict[str, np.ndarray]], None] | None = None
) -> Artifact:
    """Write the artifact of the quantized program; `spoil` may change its golden arrays."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, (1, 64)).astype(np.float32)
    quantizer = np.array([15.0, 0.0], np.float32)
    w = rng.integers(-8, 8, (64, 10)).astype(np.int8)
    codes = np.clip(np.rint(x * quantizer[0]), 0, 15).astype(np.uint8)
    acc = codes.astype(np.int32) @ w.astype(np.int32)
    golden = {
        "input": x,
        "output": acc.astype(np.float32),
        "quantize:layer": codes[None],
        "ties:layer": (np.abs(15 * x % 1 - 0.5) < 1e-3)[None],
        "accumulate:layer": acc,
    }
    if spoil:
        spoil(golden)
    kernels = [
        {
            "call": "quantize_layer",
            "layer": "layer",
            "kind": "quantize",
            "writes": {
                "layer": "layer",
                "shape": [1, 1, 64],
                "padding": [0, 0],
                "pixel_bytes": 64,
                "offset": 0,
            },
        },
        {"call": "accumulate_layer", "layer": "layer", "kind": "bit_gemm", "accumulates": True},
    ]
    reveal = np.zeros(1, np.int32)
    weights = [weight("q", quantizer), weight("w", w), weight("reveal", reveal)]
    return write_artifact(root, library, kernels, weights, golden)


@dataclass
class FakeRunner:
    """A Runner that runs nothing: one millisecond a run, and what the plain reference says."""

    gate: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    blocking: bool = False
    fail: Exception | None = None
    cancelled: bool = False

    def block(self, job: Job, plan: TimingPlan, on_phase: OnPhase) -> Block:
        self._enter()
        for phase in ("warmup", "sample", "sampled"):
            on_phase(phase)
        samples = tuple(1_000_000 + i for i in range(plan.runs))
        return Block(samples, 10, True, counters=(Counter("cycles", 7, 5, 5),), notes=("note",))

    def verify(self, job: Job) -> VerifyReport:
        self._enter()
        return VerifyReport((LayerCheck("layer", 64),), 0.0, 1.0, 0.0)

    def profile(self, job: Job, repeats: int) -> Profile:
        self._enter()
        rows = job.manifest["kernels"]
        kernels = tuple(
            KernelTiming(i, row["call"], row["layer"], row["kind"], (1000,) * repeats)
            for i, row in enumerate(rows)
        )
        return Profile(kernels, (1000 * len(rows),) * repeats, ("counter cycles: fake",))

    def infer(self, job: Job, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        self._enter()
        yield from (plain_reference(batch) for batch in batches)

    def cancel(self) -> None:
        self.cancelled = True
        self.gate.set()

    def _enter(self) -> None:
        self.started.set()
        if self.fail:
            raise self.fail
        if self.blocking:
            self.cancelled = False
            self.gate.clear()
            assert self.gate.wait(20), "nobody cancelled"
            raise Cancelled("the run was cancelled")


@dataclass
class FakeProbes:
    """Conditions that a test sets."""

    conditions: Conditions = field(default_factory=lambda: Conditions(1, 50.0, 1800.0, 0))

    def read(self) -> Conditions:
        return self.conditions


def fake_machine(runner: FakeRunner | None = None, probes: FakeProbes | None = None) -> Machine:
    """Return a machine of fakes."""
    identity = Identity("fake", "fake", ARCH, {"kind": "fake"}, ("verify",))
    return Machine(identity, runner or FakeRunner(), probes or FakeProbes())
