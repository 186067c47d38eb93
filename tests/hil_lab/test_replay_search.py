"""A search on a recording finds what the recorded one found, and fails where it failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hil_lab.simboard import faults
from host.boards import drift
from tests.hil_lab import tiny
from tests.hil_lab.commands import hil_lab

pytestmark = [pytest.mark.tvm, pytest.mark.slow]


@pytest.fixture(autouse=True)
def here(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in tiny.environment(tmp_path_factory).items():
        monkeypatch.setenv(name, value)


def found(result: dict[str, Any]) -> list[Any]:
    """Return policies and figures; measurements have names of their own on every board."""
    rows = []
    for row in result["rows"]:
        kept = {key: row[key] for key in ("name", "target", "episode", "policy", "validation")}
        evaluation = {k: v for k, v in row["evaluation"].items() if "measurement" not in k}
        rows.append({**kept, "evaluation": evaluation})
    return [result["reference_ms"], result["measured_programs"], rows]


def test_a_replayed_search_has_the_same_policies_and_figures(tmp_path: Path) -> None:
    search = ("search", "digits", *tiny.arguments(), "--json")
    was = hil_lab(*search, "--board", "sim:rpi4?seed=5", "--record", "pi.jsonl")
    assert was.status == 0, was.err
    (tmp_path / "runs").rename(tmp_path / "before")
    again = hil_lab(*search, "--board", "replay:pi.jsonl")
    assert again.status == 0, again.err
    assert found(again.json) == found(was.json)
    assert "replay" in again.json["board"]["fingerprint"]


def test_a_replayed_search_fails_as_the_recorded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "DRIFT_AFTER", 2)
    monkeypatch.setattr(drift, "JOBS", 3)
    settings = tiny.arguments(**{"search.strategy": "random", "search.target": 0.5})
    was = hil_lab(
        "search", "digits", "--board", "sim:rpi4?fault=drift", "--record", "pi.jsonl", *settings
    )
    assert was.status == 1
    (tmp_path / "runs").rename(tmp_path / "before")
    again = hil_lab("search", "digits", "--board", "replay:pi.jsonl", *settings)
    assert again.status == 1
    assert "is quarantined: the anchor is +3.0% off its baseline" in again.err
    # But for the board that is to be reset.
    said = sentence(again.err).replace("replay:pi.jsonl", "sim:rpi4?fault=drift")
    assert said == sentence(was.err)


def sentence(err: str) -> str:
    """Return what the error says after the board's name."""
    return err.rpartition("is quarantined")[2]
