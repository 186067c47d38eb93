"""The smallest real run: digits, one epoch, a few episodes; its settings and where it compiles."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

EPISODES = 4
SETTINGS = {
    "train.epochs": 1,
    "search.episodes": EPISODES,
    "search.round_to": 16,
    "finetune.search_steps": 1,
    "finetune.final_epochs": 1,
    "finetune.batch_size": 256,
    "sensitivity_images": 16,
    "validation_images": 64,
    "measure.search": "quick",
    "measure.report": "quick",
}


def arguments(**more: object) -> list[str]:
    """Return the command-line settings of a tiny run."""
    chosen = {**SETTINGS, **more}
    return [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]


def environment(factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the variables of a run: one compile cache for all test processes, no emulation."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    absent = str(Path(base) / "no-arm64-root")
    return {"HIL_CACHE": str(shared / "compiled"), "HIL_ARM64_ROOT": absent}
