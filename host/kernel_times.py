"""Predicted time of every layer from its program's kernels: those that were timed, and others.

A policy is planned, not compiled: its kernel table says which kernels it calls and what each does.
A kernel that some profile timed takes what it took there; any other one is predicted by its kind's
regression on products, operations and bytes, fitted to all timed kernels of that kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from host.policy import Choice, Policy, Space

# A row of an artifact's kernel table (docs/artifact.md).
Row = Mapping[str, Any]
Rows = Callable[[Policy], Sequence[Row]]
Floats = NDArray[np.float64]
# So few samples of a kind say nothing about it: all kinds together do.
LEAST_SAMPLES = 6
ANY_KIND = ""
# Formats and sparsities of the programs that are timed. More were no better on the simulated
# board: twice as many gave the same errors to a hundredth of a percent.
TIMED = (
    (Choice(), 0.0),
    (Choice(None, "int8", 8, 8), 0.0),
    (Choice(None, "mix", 4, 4), 0.0),
    (Choice(), 0.5),
    (Choice(None, "mix", 2, 2), 0.5),
    (Choice(), 0.75),
    (Choice(None, "mix", 1, 1), 0.75),
)


@dataclass(frozen=True, slots=True)
class Timed:
    """One kernel call of a profile: its row in the kernel table and its median milliseconds."""

    row: Row
    ms: float


def terms(row: Row) -> list[float]:
    """Return what a kernel's time is a sum of, each in millions; the last one is the call itself.

    Products, one-bit products, element operations, bytes of activations, bytes of weights.
    """
    bits = row["weight_bits"] * row["act_bits"] if row["kind"] == "bit_gemm" else 0
    counts = (
        row["macs"],
        row["macs"] * bits,
        row["ops"],
        row["bytes_read"] + row["bytes_written"],
        row["weight_bytes"],
    )
    return [count / 1e6 for count in counts] + [1e-3]


class KernelTimes:
    """Milliseconds of every layer of any policy of a space."""

    def __init__(self, rows: Rows, timed: Iterable[Timed]) -> None:
        self._rows = rows
        samples = list(timed)
        self._known: dict[str, float] = {}
        by_kind: dict[str, list[Timed]] = {ANY_KIND: samples}
        for sample in samples:
            self._known.setdefault(sample.row["call"], sample.ms)
            by_kind.setdefault(sample.row["kind"], []).append(sample)
        self._fits = {
            kind: _fit(group)
            for kind, group in by_kind.items()
            if len(group) >= LEAST_SAMPLES or kind == ANY_KIND
        }

    def __call__(self, policy: Policy) -> dict[str, float]:
        """Return milliseconds per layer and, under "", of what belongs to none."""
        times: dict[str, float] = {}
        for row in self._rows(policy):
            times[row["layer"]] = times.get(row["layer"], 0.0) + self.kernel_ms(row)
        return times

    def kernel_ms(self, row: Row) -> float:
        """Return the time of one kernel, measured where it can be."""
        known = self._known.get(row["call"])
        if known is not None:
            return known
        fit = self._fits.get(row["kind"], self._fits[ANY_KIND])
        return float(np.dot(fit, terms(row)))


def time_kernels(
    space: Space, rows: Rows, profile: Callable[[Policy], Iterable[tuple[str, float]]]
) -> list[Timed]:
    """Profile some programs; `profile` yields (layer, milliseconds) per kernel call."""
    timed = []
    for policy in timed_programs(space):
        for row, (_, ms) in zip(rows(policy), profile(policy), strict=True):
            timed.append(Timed(row, ms))
    return timed


def timed_programs(space: Space) -> list[Policy]:
    """Return the programs to profile: uniform formats, whole, at half and at a quarter width.

    Narrow kernels are not whole ones scaled: loops are short, and calls weigh more.
    """
    programs = [_uniform(space, form, sparsity) for form, sparsity in TIMED]
    return list({policy.digest(): policy for policy in programs}.values())


def _uniform(space: Space, form: Choice, sparsity: float) -> Policy:
    return space.policy(
        {
            layer.name: replace(form, keep=space.keep_for(layer, sparsity))
            for layer in space.graph.layers
        }
    )


def _fit(samples: Sequence[Timed]) -> Floats:
    """Return the coefficients, none negative, of least relative error."""
    matrix = np.asarray([terms(sample.row) for sample in samples])
    ms = np.asarray([sample.ms for sample in samples])
    coefficients, _ = nnls(matrix / ms[:, None], np.ones(len(ms)))
    found: Floats = coefficients
    return found
