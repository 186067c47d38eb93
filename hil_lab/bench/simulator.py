"""The modelled board against what others measured: fitted to one half, held against the other.

`hil-lab bench simulator --data FOLDER`, where the folder holds the CSV files of board_data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hil_lab.bench.board_data import Measured, kernels, networks
from hil_lab.bench.calibrate import Rates, fit, halves, predicted_ms
from hil_lab.bench.report import Options, Report, Show, Table, number
from hil_lab.simboard.published import Table as Rated
from hil_lab.simboard.published import Work, tables, works
from host.errors import CallerError
from host.stats import spearman

# The shipped tables are rounded to four digits.
ROUNDING = 0.001
COLUMNS = ("measured", "rows held back", "rank", "median error", "90 % below", "MACs alone")


@dataclass(frozen=True, slots=True)
class Source:
    """Measurements of others, the rates that are fitted to them, and the bars of the held rows."""

    name: str
    read: Callable[[Path], list[Measured]]
    rates: Rates
    rank_bar: float | None
    error_bar: float


SOURCES = (
    Source("networks", networks, Rates(("conv", "conv1x1"), ("pool",)), 0.9, 0.11),
    Source(
        "kernels",
        kernels,
        Rates(("conv", "conv1x1", "winograd", "depthwise"), memory=True),
        None,
        0.2,
    ),
)


@dataclass(frozen=True, slots=True)
class Held:
    """How the shipped table does on the rows that it was not fitted to."""

    name: str
    rows: int
    rank: float
    median_error: float
    error_90: float
    macs_rank: float
    # Largest difference of a shipped rate to the one that is fitted now.
    apart: float

    def row(self) -> list[str]:
        """Return the figures as a line of a table."""
        errors = [f"{100 * x:.1f} %" for x in (self.median_error, self.error_90)]
        return [self.name, f"{self.rows}", number(self.rank, 3), *errors, number(self.macs_rank, 3)]


def report(options: Options) -> Report:
    """Fit the rates again and hold the shipped tables against the other half."""
    if not options.data:
        raise CallerError("--data: name the folder of the measured latencies (docs/simboard.md)")
    found = [_held(source, Path(options.data)) for source in SOURCES]
    return Report(
        samples={"sources": [asdict(held) for held in found]},
        tables=[Table(COLUMNS, [held.row() for held in found])],
        shows=[show for pair in zip(SOURCES, found, strict=True) for show in _shows(*pair)],
    )


def _held(source: Source, folder: Path) -> Held:
    measured = source.read(folder)
    programs = [works(m.program) for m in measured]
    ms = [m.ms for m in measured]
    fitted, held = halves(len(ms))
    table = tables()[source.name]
    now = source.rates.table("", fit(programs[fitted], ms[fitted], source.rates))
    predicted = [predicted_ms(program, table) for program in programs[held]]
    errors = np.abs(np.asarray(predicted) / ms[held] - 1)
    return Held(
        source.name,
        len(predicted),
        spearman(predicted, ms[held]),
        float(np.median(errors)),
        float(np.quantile(errors, 0.9)),
        spearman([_macs(program) for program in programs[held]], ms[held]),
        _apart(table, now),
    )


def _macs(program: Sequence[Work]) -> float:
    return sum(work.macs for work in program)


def _apart(shipped: Rated, fitted: Rated) -> float:
    pairs: list[tuple[Any, Any]] = [(shipped.gbytes_per_s, fitted.gbytes_per_s)]
    for part in ("gmacs_per_s", "melements_per_s"):
        ours, theirs = getattr(shipped, part), getattr(fitted, part)
        pairs += [(ours.get(kind, np.inf), rate) for kind, rate in theirs.items()]
    return max(0.0 if a == b else abs(a / b - 1) for a, b in pairs)


def _shows(source: Source, held: Held) -> list[Show]:
    where = f"{held.rows} {source.name} held back"
    return [
        Show(f"{where}: rank correlation", held.rank, "", source.rank_bar),
        Show(f"{where}: median error", held.median_error, "", source.error_bar, "at most"),
        Show(f"{source.name}: shipped rates off fitted ones", held.apart, "", ROUNDING, "at most"),
    ]
