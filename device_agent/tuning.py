"""The governor and the lowest clock as a reversible context manager.

What could not be set is reported, never fatal; what was set is put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CORES = "sys/devices/system/cpu/cpu[0-9]*/cpufreq"
_GOVERNOR, _LOWEST, _HIGHEST = "scaling_governor", "scaling_min_freq", "scaling_max_freq"
_NAMES = {_GOVERNOR: "governor", _LOWEST: "lowest clock"}


@contextmanager
def tuned(root: Path = Path("/"), governor: str = "performance") -> Iterator[tuple[str, ...]]:
    """Set governor and lowest clock of every core, yield what could not be set, and undo it.

    A governor chooses between the lowest and the highest clock: where they are one, it cannot.
    """
    before: list[tuple[Path, str]] = []
    notes: list[str] = []
    cores = sorted(root.glob(_CORES))
    try:
        for file in (core / name for core in cores for name in _NAMES if (core / name).exists()):
            try:
                was, value = _text(file), _wanted(file, governor)
                if was != value:
                    file.write_text(value)
                    before.append((file, was))
            except OSError as e:
                notes.append(f"{_NAMES[file.name]} of {file.parts[-3]} not set: {e.strerror}")
        yield tuple(notes)
    finally:
        for file, was in reversed(before):
            file.write_text(was)


@contextmanager
def untouched() -> Iterator[tuple[str, ...]]:
    """Change nothing: for boards that are tuned at boot, or simulated."""
    yield ()


def _wanted(file: Path, governor: str) -> str:
    return governor if file.name == _GOVERNOR else _text(file.with_name(_HIGHEST))


def _text(file: Path) -> str:
    return file.read_text().strip()
