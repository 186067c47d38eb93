"""What a budget counts: milliseconds, millijoules or bytes of the real program."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from host.errors import CallerError
from host.registry import Registry
from host.types import Evaluation, Figure


@dataclass(frozen=True, slots=True)
class Cost:
    """One kind of cost: its unit, and the field of an evaluation that holds it."""

    name: str
    unit: str
    field: str
    # What to do where a board does not report it.
    remedy: str = ""

    def of(self, evaluation: Evaluation) -> float:
        """Return the cost of a program; raises CallerError where nothing reported it."""
        value: Figure | int | None = getattr(evaluation, self.field)
        if value is None:
            raise CallerError(f"the board reports no {self.name}: {self.remedy}")
        return float(value.value if isinstance(value, Figure) else value)

    def forecast(self, accuracy: float, value: float) -> Evaluation:
        """Return what a forecast of accuracy and cost says, as an evaluation."""
        own = {"size_bytes": 0, self.field: self._value(Figure(value, "predicted"))}
        return Evaluation(accuracy, 0, "validation", 0, 0, **own)

    def predicted(self, evaluation: Evaluation, figure: Figure) -> Evaluation:
        """Return an evaluation with a predicted cost in place of its own."""
        return replace(evaluation, **{self.field: self._value(figure)})

    def _value(self, figure: Figure) -> Any:
        return round(figure.value) if self.field == "size_bytes" else figure


LATENCY = Cost("latency", "ms", "latency_ms", "measure the program")
ENERGY = Cost("energy", "mJ", "energy_mj", "attach a power meter, or take search.cost latency")
SIZE = Cost("size", "bytes", "size_bytes")
COSTS: Registry[Cost] = Registry("cost")
for _cost in (LATENCY, ENERGY, SIZE):
    COSTS.register(_cost.name)(_cost)
