"""The governor as a reversible context manager; what could not be set is reported, never fatal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_GOVERNORS = "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"


@contextmanager
def tuned(root: Path = Path("/"), governor: str = "performance") -> Iterator[tuple[str, ...]]:
    """Set the governor of every core, yield what could not be set, and put everything back."""
    before: dict[Path, str] = {}
    notes: list[str] = []
    files = sorted(root.glob(_GOVERNORS))
    try:
        for file in files:
            try:
                was = file.read_text().strip()
                if was != governor:
                    file.write_text(governor)
                    before[file] = was
            except OSError as e:
                notes.append(f"governor of {file.parts[-3]} not set: {e.strerror}")
        yield tuple(notes)
    finally:
        for file, was in before.items():
            file.write_text(was)


@contextmanager
def untouched() -> Iterator[tuple[str, ...]]:
    """Change nothing: for boards that are tuned at boot, or simulated."""
    yield ()
