"""Compares the integers of a program with its reference's; never decides what passes.

Runs the golden input twice (docs/artifact.md): freely, comparing outputs, then forced, where every
quantize kernel's integers are compared and overwritten by the golden ones, so that each accumulate
kernel gets the very input that the reference had.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.errors import Rejected
from device_agent.program import Program, Watch
from device_agent.values import Job
from protos.values import LayerCheck, VerifyReport

TIE_WINDOW = 1e-3  # how near to a rounding boundary a scaled float is a tie


def verify(program: Program, job: Job) -> VerifyReport:
    """Run the golden input and return the differences of every quantized layer."""
    golden = load_golden(job)
    reference = golden["output"].astype(np.float64)
    free = program.run(golden["input"])
    watch = _Forced(program, golden)
    forced = program.run_watched(golden["input"], watch)
    return VerifyReport(
        tuple(watch.checks.values()),
        output_largest=_largest(free, reference),
        output_range=float(np.ptp(reference)),
        forced_output_largest=_largest(forced, reference),
    )


def load_golden(job: Job) -> Mapping[str, np.ndarray]:
    """Read the golden blob; raises Rejected where the artifact has none or it is malformed."""
    ref = job.manifest["golden"]
    if ref is None:
        raise Rejected("the artifact has no golden input: build it again with one")
    return read_arrays(job.blobs / ref["digest"])


def read_arrays(path: Path) -> Mapping[str, np.ndarray]:
    """Read an .npz without pickles; raises Rejected for anything else."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, AttributeError) as e:
        raise Rejected(f"the golden blob is not an .npz without pickles: {e}") from e


class _Forced(Watch):
    """Compares every checked kernel and forces the integers of the quantizing ones."""

    def __init__(self, program: Program, golden: Mapping[str, np.ndarray]) -> None:
        super().__init__(program.manifest)
        self._rows = program.manifest["kernels"]
        self._weights = program.weights
        self._golden = golden
        self.checks: dict[str, LayerCheck] = {}

    def after(self, index: int, args: Sequence[Any]) -> None:
        row = self._rows[index]
        if row["check"] == "quantize":
            self._quantize(row, np.from_dlpack(args[0]), np.from_dlpack(args[-1]))
        elif row["check"] == "accumulate":
            self._accumulate(row, np.from_dlpack(args[-1]))

    def _quantize(self, row: Mapping[str, Any], source: np.ndarray, made: np.ndarray) -> None:
        want = self._expected(row).reshape(made.shape)
        off = np.abs(made.astype(np.int64) - want.astype(np.int64))
        ties = 0
        if off.any():
            inverse_scale, zero_point = self._weights[row["quantizer"]["input"]].ravel()[:2]
            scaled = _centred(source, made.shape) * inverse_scale + zero_point
            near = np.abs(scaled - np.floor(scaled) - 0.5) < TIE_WINDOW
            ties = int(np.count_nonzero((off == 1) & near))
        self._update(
            row["layer"],
            quantize_elements=made.size,
            quantize_mismatches=int(np.count_nonzero(off)),
            quantize_ties=ties,
            quantize_largest=int(off.max(initial=0)),
        )
        made[...] = want.astype(made.dtype)

    def _accumulate(self, row: Mapping[str, Any], made: np.ndarray) -> None:
        want = self._expected(row)
        m, n = want.shape
        off = np.abs(made.reshape(-1, made.shape[-1])[:m, :n].astype(np.int64) - want)
        self._update(
            row["layer"],
            accumulate_elements=want.size,
            accumulate_mismatches=int(np.count_nonzero(off)),
            accumulate_largest=int(off.max(initial=0)),
        )

    def _expected(self, row: Mapping[str, Any]) -> np.ndarray:
        name = f"{row['check']}:{row['layer']}"
        if name not in self._golden:
            raise Rejected(f"the golden blob lacks {name}: build the artifact again")
        return self._golden[name]

    def _update(self, layer: str, **counts: Any) -> None:
        self.checks[layer] = replace(self.checks.get(layer, LayerCheck(layer)), **counts)


def _centred(source: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the source as float64 amid the border that the kernel writes around it."""
    if source.size == math.prod(shape):
        return source.reshape(shape).astype(np.float64)
    inside = tuple(
        slice((outer - inner) // 2, (outer + inner) // 2)
        for outer, inner in zip(shape, source.shape, strict=True)
    )
    framed = np.zeros(shape)
    framed[inside] = source
    return framed


def _largest(made: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(made.astype(np.float64) - reference).max(initial=0.0))
