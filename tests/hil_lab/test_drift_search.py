"""A search on a board that drifts: it ends, says so, and measures again once it is mended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil_lab.simboard import faults
from host.boards import drift
from host.store import Store
from tests.hil_lab import tiny
from tests.hil_lab.commands import hil_lab

pytestmark = [pytest.mark.tvm, pytest.mark.slow]


def test_a_board_that_drifts_ends_the_search_and_resume_measures_again(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in tiny.environment(tmp_path_factory).items():
        monkeypatch.setenv(name, value)
    # The board is good for its baseline, the reference and a look; a look every three jobs.
    monkeypatch.setattr(faults, "DRIFT_AFTER", 2)
    monkeypatch.setattr(drift, "JOBS", 3)
    settings = tiny.arguments(**{"search.strategy": "random", "search.target": 0.5})
    done = hil_lab("search", "digits", "--board", "sim:rpi4?fault=drift", *settings)
    assert done.status == 1
    assert "is quarantined: the anchor is +3.0% off its baseline" in done.err
    assert "measurements since the last good look are invalid" in done.err

    (run,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    store = Store(tmp_path / "runs" / "store.db")
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    told = [line for line in lines if line["event"] == "episode"]
    assert told  # the search was told numbers that no longer count

    monkeypatch.setattr(faults, "DRIFT_AFTER", 10**6)
    again = hil_lab("resume", run, "--json")
    assert again.status == 0, again.err
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [line["episodes"] for line in lines if line["event"] == "requeued"] == [len(told)]
    rows = again.json["rows"]
    names = [name for row in rows for name in row["evaluation"]["measurements"]]
    assert names and store.invalid(names) == {}
    store.close()
