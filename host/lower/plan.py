"""The plan of a program: which kernels run in which order on which tensors and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from host.lower.kernels.codes import Codes
from host.lower.kernels.kernel import Kernel
from host.lower.program import Shape
from host.sparsity import Kept


@dataclass(frozen=True, slots=True)
class Argument:
    """A tensor or weight, seen by a call with this shape (the same elements in the same order)."""

    name: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class CodesOf:
    """The input of a quantized layer, as codes."""

    layer: str
    codes: Codes


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel call; `accumulates` and `writes` tell `Verify` what to compare.

    See docs/artifact.md.
    """

    kernel: Kernel
    arguments: tuple[Argument, ...]
    out: str
    layer: str = ""
    accumulates: bool = False
    writes: CodesOf | None = None


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor that is filled from the compressed network: `role` says how (host.lower.weights).

    `kept` says what of a thinned layer's weights is stored; None where all are.
    """

    name: str
    role: str
    path: str
    layer: str
    shape: Shape
    dtype: str
    params: Mapping[str, Any] = field(default_factory=dict)
    kept: Kept | None = None


@dataclass(frozen=True)
class Plan:
    """Calls in order, the weights that they read, and the tensors at both ends."""

    calls: tuple[Call, ...]
    weights: tuple[Weight, ...]
    input: str
    input_shape: Shape
    output: Argument
