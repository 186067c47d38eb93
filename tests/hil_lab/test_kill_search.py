"""A search that is killed at any instant ends as if it had not been."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hil_lab.toy_search import EPISODES, KILLS

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "boards"),
    [("galen-joint", 1), ("tpe", 1), ("frontier", 1), ("nsga2", 3), ("random", 2), ("frontier", 2)],
)
def test_a_search_killed_at_twenty_random_instants_ends_as_an_undisturbed_one(
    strategy: str, boards: int, tmp_path: Path
) -> None:
    module = "tests.hil_lab.toy_search"
    command = [sys.executable, "-m", module, strategy, str(tmp_path), "7", str(boards)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == KILLS
    undisturbed = found["undisturbed"]
    assert len(undisturbed["episodes"]) == EPISODES
    assert undisturbed["stored"] == undisturbed["episodes"]
    assert (undisturbed["foretold"] is not None) == (strategy == "frontier")
    for killed in found["killed"]:
        assert killed == undisturbed
