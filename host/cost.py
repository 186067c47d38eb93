"""What a budget counts: milliseconds, millijoules or bytes of the real program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from host.errors import CallerError
from host.registry import Registry
from host.types import Evaluation, Figure


class Costed(Protocol):
    """What costs are read off: an evaluation, or the figures of a program."""

    @property
    def size_bytes(self) -> int:
        """Packed weights, scales and tables."""

    @property
    def latency_ms(self) -> Figure | None:
        """Milliseconds of one inference."""

    @property
    def energy_mj(self) -> Figure | None:
        """Millijoules of one inference."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One kind of cost: its unit, and the field of an evaluation that holds it."""

    name: str
    unit: str
    field: str
    # What to do where a board does not report it.
    remedy: str = ""

    def of(self, known: Costed) -> float:
        """Return the cost of a program; raises CallerError where nothing reported it."""
        value: Figure | int | None = getattr(known, self.field)
        if value is None:
            raise CallerError(f"the board reports no {self.name}: {self.remedy}")
        return float(value.value if isinstance(value, Figure) else value)

    def forecast(self, accuracy: float, value: float) -> Evaluation:
        """Return what a forecast of accuracy and cost says, as an evaluation."""
        figure: Any = round(value) if self is SIZE else Figure(value, "predicted")
        own = {"size_bytes": 0, self.field: figure}
        return Evaluation(accuracy, 0, "validation", 0, 0, **own)


LATENCY = Cost("latency", "ms", "latency_ms", "measure the program")
ENERGY = Cost(
    "energy",
    "mJ",
    "energy_mj",
    "attach a power meter, or take search.cost latency, search.energy accelerator",
)
SIZE = Cost("size", "bytes", "size_bytes")
COSTS: Registry[Cost] = Registry("cost")
for _cost in (LATENCY, ENERGY, SIZE):
    COSTS.register(_cost.name)(_cost)
