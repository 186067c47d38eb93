"""What a benchmark hands over: raw samples, tables, and the figures that it is there to show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hil_lab.bench.networks import BenchNetwork
from hil_lab.console import Reporter

Sense = Literal["at least", "at most"]


@dataclass(frozen=True)
class Options:
    """What a person may choose; 0 rounds and no threads stand for a benchmark's own choice."""

    networks: Sequence[str]
    reporter: Reporter
    target: str = "cortex-a72"
    threads: tuple[int, ...] = ()
    rounds: int = 0
    # Of searches: which methods and seeds, where trials are kept, and recipe keys.
    methods: Sequence[str] = ()
    seeds: Sequence[int] = ()
    folder: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    # Of the simulator: where the latencies lie that others measured.
    data: str = ""
    # Of faults: where the image of the emulated machine lies, "" for the usual place.
    image: str = ""


@dataclass(frozen=True, slots=True)
class Show:
    """One figure of a benchmark; without a bar it is only reported beside the others."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    sense: Sense = "at least"

    @property
    def holds(self) -> bool | None:
        """Whether the bar is met, None without one."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.sense == "at least" else self.value <= self.bar

    def to_dict(self) -> dict[str, Any]:
        """Return the figure as JSON; the name says in which direction the bar lies."""
        if self.bar is None:
            return {"name": self.name, "value": self.value, "unit": self.unit}
        return {
            "name": f"{self.name}, {self.sense}",
            "value": self.value,
            "unit": self.unit,
            "bar": self.bar,
            "holds": self.holds,
        }

    def row(self) -> list[str]:
        """Return the figure as a line of a table."""
        value = f"{self.value:.4g} {self.unit}".rstrip()
        if self.bar is None:
            return [self.name, value, "", ""]
        return [self.name, value, f"{self.sense} {self.bar:g}", "holds" if self.holds else "FAILS"]


@dataclass(frozen=True)
class Table:
    """What a person reads of the samples."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Report:
    """Raw samples under the benchmark's own keys, readable tables, shows and remarks.

    `missing` says in one sentence each what could not be measured, and why; `picture` is an SVG,
    empty where there is nothing to look at.
    """

    samples: Mapping[str, Any]
    tables: Sequence[Table]
    shows: Sequence[Show]
    missing: Sequence[str] = field(default_factory=tuple)
    picture: str = ""

    @property
    def holds(self) -> bool:
        """Whether every figure that has a bar meets it."""
        return all(show.holds is not False for show in self.shows)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the tables as JSON."""
        return {
            **self.samples,
            "shows": [show.to_dict() for show in self.shows if show.bar is not None],
            "beside": [show.to_dict() for show in self.shows if show.bar is None],
            "missing": list(self.missing),
        }


def over(networks: Iterable[BenchNetwork], every: Iterable[str]) -> str:
    """Say over which networks a figure is, where those are not all of them: " (resnet20)"."""
    names = [network.name for network in networks]
    return "" if set(names) >= set(every) else f" ({', '.join(names)})"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number for a table, - for none."""
    return "-" if value is None else f"{value:.{digits}f}"
