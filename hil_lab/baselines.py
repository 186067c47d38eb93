"""The signed baselines of boards, NAME-baseline.json beside the inventory; measures none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from host.errors import StoreError


def baseline_path(board: str, folder: Path = Path(".")) -> Path:
    """Return where the baseline of a board lies."""
    return folder / f"{board}-baseline.json"


def read_baseline(board: str, folder: Path = Path(".")) -> dict[str, Any] | None:
    """Return a board's baseline with its signature, None where there is none.

    Raises StoreError for a file that is none.
    """
    path = baseline_path(board, folder)
    try:
        kept = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as e:
        raise StoreError(f"{path}: cannot be read as a baseline ({e}); provision again") from e
    if not isinstance(kept, dict):
        raise StoreError(f"{path}: cannot be read as a baseline; provision again")
    return kept
