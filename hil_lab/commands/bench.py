"""`hil-lab bench`: every benchmark reports alike; status 1 where a figure misses its bar."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from hil_lab.bench.machine import describe
from hil_lab.bench.report import Options, Report
from hil_lab.commands import BENCHMARKS
from hil_lab.commands.search import overrides_of
from hil_lab.console import RichReporter, Silent, print_json, print_table, print_text
from host.errors import CallerError


def run(arguments: argparse.Namespace) -> int:
    """Run one of the benchmarks."""
    module = importlib.import_module(f"hil_lab.bench.{BENCHMARKS[arguments.what]}")
    machine = describe()
    report: Report = module.report(_options(arguments))
    if arguments.picture:
        _write(report.picture, Path(arguments.picture))
    if arguments.json:
        print_json({"machine": machine, **report.to_dict()})
    else:
        _print(report)
    return 0 if report.holds else 1


def _write(picture: str, path: Path) -> None:
    if not picture:
        raise CallerError("--picture: this benchmark draws none; leave it out")
    try:
        path.write_text(picture)
    except OSError as e:
        raise CallerError(f"--picture {path}: {e.strerror}; name another file") from e


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        arguments.network,
        Silent() if arguments.json else RichReporter(),
        arguments.target,
        _threads(arguments.threads),
        arguments.rounds,
        arguments.method,
        arguments.seed,
        arguments.out,
        overrides_of(arguments.set),
        arguments.data,
        arguments.image,
    )


def _threads(text: str) -> tuple[int, ...]:
    """Return thread counts as given, "1,2"."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdigit() and int(part) for part in parts):
        raise CallerError(f"--threads takes numbers such as 1,2, not {text!r}")
    return tuple(int(part) for part in parts)


def _print(report: Report) -> None:
    for table in report.tables:
        print_table(table.columns, table.rows)
        print_text("")
    print_table(("shows", "value", "bar", ""), [show.row() for show in report.shows])
    for sentence in report.missing:
        print_text(f"missing   {sentence}")
