"""The kernel's meters: hwmon folders by the name of their chip; reads, never writes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

HWMON = "sys/class/hwmon"


def folders(root: Path, chips: Iterable[str]) -> list[Path]:
    """Return the folders of chips of some names, in the kernel's order."""
    wanted = frozenset(chips)
    return [
        folder
        for folder in sorted((root / HWMON).glob("hwmon*"), key=_number)
        if text(folder / "name") in wanted
    ]


def text(path: Path) -> str:
    """Return a file's text, '' where it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def integer(path: Path) -> int:
    """Return a file's number; raises OSError or ValueError where there is none."""
    return int(path.read_text())


def _number(folder: Path) -> int:
    digits = folder.name.removeprefix("hwmon")
    return int(digits) if digits.isdigit() else 0
