"""What every kernel family has: a JSON-able configuration, a schedule per target, and its cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar

from tvm import te, tirx

from host.canonical import digest
from host.lower.program import Shape, ViewStep
from host.lower.targets import Target
from host.lower.views import source_index

# Bumped with every change to a schedule: it is part of each compiled object's name.
KERNELS_VERSION = 6


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call executes and moves; `macs` includes padding, `ops` are element operations."""

    macs: int = 0
    ops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    weight_bytes: int = 0


@dataclass(frozen=True)
class Kernel(ABC):
    """A kernel configuration: a frozen dataclass of JSON-able fields.

    `kind` is the family, as in the artifact's kernel table; `dtype` that of the destination.
    """

    kind: ClassVar[str]
    dtype: ClassVar[str] = "float32"

    @property
    def out_dtype(self) -> str:
        """Element type of the destination."""
        return self.dtype

    @property
    @abstractmethod
    def out_shape(self) -> Shape:
        """Stored shape of the destination."""

    @abstractmethod
    def prim_func(self, target: Target) -> tirx.PrimFunc:
        """Return the scheduled function; the destination is its last parameter."""

    @abstractmethod
    def cost(self) -> Cost:
        """Return what one call costs."""


@lru_cache(maxsize=4096)
def symbol(kernel: Kernel, target: Target) -> str:
    """Return the kernel's name: equal configurations share one compiled object."""
    identity = digest([KERNELS_VERSION, kernel.kind, target.name, asdict(kernel)])
    return f"{kernel.kind}_{identity[:20]}"


@dataclass(frozen=True, slots=True)
class Accessor:
    """How a kernel reads an operand: its stored shape, axis order and view steps."""

    shape: Shape
    order: tuple[int, ...]
    steps: tuple[ViewStep, ...] = ()

    @property
    def base(self) -> Shape:
        """Logical shape of the stored tensor."""
        return tuple(self.shape[self.order.index(axis)] for axis in range(len(self.order)))

    @property
    def elements(self) -> int:
        """Elements of the stored tensor."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    def placeholder(self, name: str) -> te.Tensor:
        """Return the operand as a float32 parameter."""
        return te.placeholder(self.shape, "float32", name)

    def read(self, tensor: te.Tensor, index: list[Any]) -> Any:
        """Return the element at a logical index of the view; padding reads zero."""
        base, conditions = source_index(self.steps, self.base, list(index))
        value = tensor[tuple(base[axis] for axis in self.order)]
        for condition in conditions:
            value = tirx.if_then_else(condition, value, tirx.const(0.0, "float32"))
        return value


def logical(index: Any, order: tuple[int, ...]) -> list[Any]:
    """Return a stored index in logical axis order."""
    return [index[order.index(axis)] for axis in range(len(order))]
