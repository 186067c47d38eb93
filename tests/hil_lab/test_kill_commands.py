"""The command itself, killed in training, in the search and near the end, then resumed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hil_lab import tiny

pytestmark = [pytest.mark.tvm, pytest.mark.slow]

POLL_S = 0.01
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**os.environ, **tiny.environment(tmp_path_factory), "PYTHONPATH": str(ROOT)}


def started(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hil_lab.cli", *arguments, "--json"]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate()
    assert process.returncode == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def killed(process: subprocess.Popen[str], moment: Callable[[], bool], delay_s: float) -> None:
    """Kill a process a little after a moment that it brings about."""
    while not moment():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(POLL_S)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def figures(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what must not depend on interruptions: all but durations and cache hits."""
    rows = []
    for row in result["rows"]:
        e = row["evaluation"]
        latency = {key: e["latency_ms"][key] for key in ("value", "low", "high")}
        same = ("accuracy", "samples", "macs", "bops", "size_bytes", "artifact", "verdict")
        kept = {key: row[key] for key in ("name", "target", "episode", "validation", "policy")}
        rows.append({**kept, **{key: e[key] for key in same}, "latency_ms": latency})
    return rows


def test_a_killed_command_resumes_to_the_same_result(
    environment: dict[str, str], tmp_path: Path
) -> None:
    search = ("search", "digits", *tiny.arguments())
    folders = [tmp_path / "undisturbed", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    undisturbed = finished(started(folders[0], environment, *search))

    rng, there = random.Random(5), folders[1]

    def run() -> Path:
        return next(there.glob("runs/*/recipe.json")).parent

    def in_training() -> bool:
        return any(there.glob("runs/*/recipe.json"))

    def in_the_search() -> bool:
        return '"episode"' in (run() / "events.jsonl").read_text()

    def near_the_end() -> bool:
        return (run() / "final" / "fp32" / "finalist.json").is_file()

    killed(started(there, environment, *search), in_training, rng.uniform(0, 0.5))
    resume = ("resume", str(run()))
    trained = started(there, environment, *resume)
    killed(trained, lambda: (run() / "events.jsonl").is_file() and in_the_search(), 0.05)
    killed(started(there, environment, *resume), near_the_end, rng.uniform(0, 0.3))
    resumed = finished(started(there, environment, *resume))

    assert figures(resumed) == figures(undisturbed)
    assert (run() / "report.html").is_file()
