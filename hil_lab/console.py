"""What a person sees while work goes on: progress bars and tables; the only place that prints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tabulate import tabulate

Advance = Callable[[int, str], None]


class Reporter(Protocol):
    """Where long work reports to."""

    def say(self, text: str) -> None:
        """Show a line."""

    def progress(self, name: str, what: str, total: int) -> Any:
        """Return a context that yields advance(done, note)."""


class RichReporter:
    """A terminal: bars that stay when they are full; on a pipe, one line per finished bar."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """Show a line."""
        self.console.print(text, soft_wrap=True)

    @contextmanager
    def progress(self, name: str, what: str, total: int) -> Iterator[Advance]:
        """Show a bar until the context ends."""
        columns = (
            TextColumn(f"{name:<8} {what:<30}"),
            BarColumn(16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        if not self.console.is_terminal:
            note = ""

            def remember(done: int, text: str = "") -> None:
                nonlocal note
                note = text

            yield remember
            self.say(f"{name:<8} {what:<30} {total}/{total}  {note}".rstrip())
            return
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(name, total=total, note="")

            def advance(done: int, text: str = "") -> None:
                bar.update(task, completed=done, note=text)

            yield advance


class Silent:
    """Says nothing; for tests and `--json`."""

    def say(self, text: str) -> None:
        """Say nothing."""

    @contextmanager
    def progress(self, name: str, what: str, total: int) -> Iterator[Advance]:
        """Yield a function that does nothing."""

        def advance(done: int, text: str = "") -> None:
            return None

        yield advance


def print_json(value: Any) -> None:
    """Write one JSON object to standard output."""
    Console(highlight=False).out(json.dumps(value, indent=1))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to standard output; lines are never wrapped or cut."""
    print_text(tabulate(rows, columns, tablefmt="plain", disable_numparse=True))


def print_text(text: str) -> None:
    """Write plain text to standard output."""
    Console(highlight=False).out(text)
