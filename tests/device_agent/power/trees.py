"""Faked sysfs trees with the files that the kernel's drivers show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def hwmon(root: Path, number: int, chip: str, files: Mapping[str, object] | None = None) -> Path:
    """Write the folder of one chip and return it."""
    folder = root / f"sys/class/hwmon/hwmon{number}"
    folder.mkdir(parents=True)
    for name, value in {"name": chip, **(files or {})}.items():
        (folder / name).write_text(f"{value}\n")
    return folder
