"""The preloaded library: clocks that jump, and what was synced."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hil_lab.bench.faults.shim import SYNCED, Shim, lose_unsynced

DAY_S = 86_400


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    return Shim.built(tmp_path_factory.mktemp("shim"))


def test_the_wall_clock_jumps_and_the_monotonic_one_does_not(shim: Shim) -> None:
    code = "import time; input(); print(time.time(), time.monotonic())"
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **shim.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    shim.jump(child.pid, DAY_S)
    wall_s, monotonic_s = map(float, child.communicate("\n")[0].split())
    assert wall_s - time.time() == pytest.approx(DAY_S, abs=60)
    assert monotonic_s == pytest.approx(time.monotonic(), abs=60)


def test_a_power_cut_empties_what_was_not_synced(shim: Shim, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    code = """
import os
for name, sync in (("kept", True), ("lost", False)):
    with open(name, "w") as file:
        file.write("content")
        file.flush()
        if sync:
            os.fsync(file.fileno())
with open("kept") as file, open("grown", "w") as grown:
    grown.write("x"), grown.flush(), os.fsync(grown.fileno()), grown.write("more")
"""
    log = tmp_path / "synced"
    environment = {**os.environ, **shim.environment, SYNCED: str(log)}
    subprocess.run([sys.executable, "-c", code], cwd=state, env=environment, check=True)
    assert lose_unsynced(state, log) == ["grown", "lost"]
    assert (state / "kept").read_text() == "content"
    assert (state / "lost").read_bytes() == b""
