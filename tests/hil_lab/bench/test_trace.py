"""Traces: all that a comparison needs, and back from their file."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_lab.bench.trace import Trace, present
from host.errors import StoreError
from tests.hil_lab.bench.test_curves import EPISODES, TRACE


def test_policies_and_programs_are_numbered_by_their_first_appearance() -> None:
    assert [step.policy for step in TRACE.steps] == [0, 1, 2, 3, 0]
    assert [step.program for step in TRACE.steps] == [0, 1, 2, 3, 0]
    assert [step.measured for step in TRACE.steps] == [True, False, True, True, True]
    assert [step.accuracy for step in TRACE.steps] == [e.evaluation.accuracy for e in EPISODES]


def test_a_trace_survives_its_file(tmp_path: Path) -> None:
    TRACE.write(tmp_path / "a.trace")
    assert Trace.read(tmp_path / "a.trace") == TRACE


def test_a_trace_names_what_its_numbers_depend_on() -> None:
    assert TRACE.versions == present()
    assert {"torch", "kernels", "sim:rpi4"} <= set(TRACE.versions)


@pytest.mark.parametrize("text", ["", "{}", "nonsense", '{"format": 9}\n[0,0,0.5,1.0,1]'])
def test_what_is_no_trace_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.trace"
    path.write_text(text)
    with pytest.raises(StoreError, match=r"is no trace of a trial .* remove the file"):
        Trace.read(path)
