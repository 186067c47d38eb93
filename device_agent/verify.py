"""Compares the integers of a program with its reference's; never decides what passes.

Runs the golden input twice (docs/artifact.md): freely, comparing outputs, then forced, where every
layer's codes are compared and overwritten by the golden ones, so that each integer product gets the
very input that the reference had, and is asked to reveal its sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.errors import Rejected
from device_agent.program import Program, Watch
from device_agent.values import Job
from protos.values import LayerCheck, VerifyReport

SUM_BYTES = 4


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
    """Compares the codes and sums of every layer and forces the codes."""

    def __init__(self, program: Program, golden: Mapping[str, np.ndarray]) -> None:
        super().__init__(program.manifest)
        self._rows = program.manifest["kernels"]
        self._golden = golden
        self.checks: dict[str, LayerCheck] = {}

    def after(self, index: int, func: Callable[..., Any], args: Sequence[Any]) -> None:
        row = self._rows[index]
        if row["accumulates"]:
            self._accumulate(row, _revealed(row, func, args))
        if row["writes"]:
            self._quantize(row["writes"], np.from_dlpack(args[-1]))

    def _quantize(self, writes: Mapping[str, Any], made: np.ndarray) -> None:
        layer = writes["layer"]
        want = self._expected("quantize", layer).astype(np.int64) - writes["offset"]
        codes = _codes(writes, made)
        off = np.abs(codes.astype(np.int64) - want)
        ties = (off == 1) & self._expected("ties", layer)
        self._update(
            layer,
            quantize_elements=codes.size,
            quantize_mismatches=int(np.count_nonzero(off)),
            quantize_ties=int(np.count_nonzero(ties)),
            quantize_largest=int(off.max(initial=0)),
        )
        codes[...] = want.astype(made.dtype)

    def _accumulate(self, row: Mapping[str, Any], made: np.ndarray) -> None:
        want = self._expected("accumulate", row["layer"])
        off = np.abs(made.reshape(want.shape).astype(np.int64) - want)
        self._update(
            row["layer"],
            accumulate_elements=want.size,
            accumulate_mismatches=int(np.count_nonzero(off)),
            accumulate_largest=int(off.max(initial=0)),
        )

    def _expected(self, kind: str, layer: str) -> np.ndarray:
        name = f"{kind}:{layer}"
        if name not in self._golden:
            raise Rejected(f"the golden blob lacks {name}: build the artifact again")
        return self._golden[name]

    def _update(self, layer: str, **counts: Any) -> None:
        self.checks[layer] = replace(self.checks.get(layer, LayerCheck(layer)), **counts)


def _revealed(row: Mapping[str, Any], func: Callable[..., Any], args: Sequence[Any]) -> np.ndarray:
    """Run a product again for its sums; its destination is left as it was."""
    reveal, made = np.from_dlpack(args[-2]), np.from_dlpack(args[-1])
    before = made.copy()

    def run(request: int) -> np.ndarray:
        reveal[0] = request
        func(*args)
        return made

    if row["writes"] is None:
        sums = run(1).view(np.int32).copy()
    else:
        parts = [_inside(row["writes"], run(n + 1)).copy() for n in range(SUM_BYTES)]
        sums = np.stack(parts, axis=-1).view(np.int32)
    reveal[0] = 0
    made[...] = before
    return sums


def _codes(writes: Mapping[str, Any], made: np.ndarray) -> np.ndarray:
    """Return a view of the codes [H + 2P, W + 2P, C] in a destination."""
    rows, columns, channels = writes["shape"]
    pixel = writes["pixel_bytes"]
    flat = made.reshape(-1)[: rows * columns * pixel]
    return flat.reshape(rows, columns, pixel)[:, :, :channels]


def _inside(writes: Mapping[str, Any], made: np.ndarray) -> np.ndarray:
    """Return a view of the codes without their border."""
    codes = _codes(writes, made)
    rows, columns = writes["padding"]
    return codes[rows : codes.shape[0] - rows, columns : codes.shape[1] - columns]


def _largest(made: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(made.astype(np.float64) - reference).max(initial=0.0))
