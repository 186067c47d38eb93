"""Runs side by side: who is best, who cannot be told apart, and what must not be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hil_lab.cli import main
from hil_lab.report.comparison import apart, compare, differences
from hil_lab.report.facts import Facts, read_facts
from hil_lab.report.side_by_side import COLUMNS, cells, marks, page
from hil_lab.runs import RESULT, Run
from tests.hil_lab.report_run import Fake, write_run

TARGET = 0.5


def finished(root: Path, accuracy: float = 0.98, **changes: Any) -> Run:
    """A finished run whose chosen program has this accuracy on 10,000 images."""
    run = write_run(root, Fake())
    result = run.read(RESULT)
    for row in result["rows"]:
        row["evaluation"] |= {"samples": 10_000}
        if row["target"] is not None:
            row["evaluation"] |= {"accuracy": accuracy}
    result["board"]["fingerprint"] |= changes
    run.write(RESULT, result)
    return run


def facts(tmp_path: Path, *accuracies: float) -> list[Facts]:
    return [read_facts(finished(tmp_path / str(i), a)) for i, a in enumerate(accuracies)]


def test_programs_of_a_target_compete_and_references_stand_alone(tmp_path: Path) -> None:
    references, found = compare(facts(tmp_path, 0.95, 0.98))
    assert [e.name for e in references.entries] == ["fp32", "uniform-int8"]
    assert marks(references) == ["", ""]
    assert found.target == TARGET
    assert [e.evaluation.accuracy for e in found.entries] == [0.98, 0.95]
    assert marks(found) == ["best", ""]


def test_what_chance_explains_is_not_told_apart(tmp_path: Path) -> None:
    _, found = compare(facts(tmp_path, 0.980, 0.982, 0.960))
    assert [e.evaluation.accuracy for e in found.entries] == [0.982, 0.980, 0.960]
    assert marks(found) == ["best", "not told apart", ""]
    best, close, far = found.entries
    assert apart(best, far) and apart(far, best) and not apart(best, close)


def test_costs_are_shares_of_the_runs_own_fp32_program(tmp_path: Path) -> None:
    entry = compare(facts(tmp_path, 0.98))[1].entries[0]
    assert entry.latency_share == pytest.approx(2.02 * TARGET / 2.0)
    assert entry.times_smaller == pytest.approx(2.0 / (2.02 * TARGET))
    assert entry.evaluations == len({*range(8)})
    assert entry.board_programs == 8


def test_other_boards_are_refused_unless_asked_for(tmp_path: Path) -> None:
    runs = [
        read_facts(finished(tmp_path / "a")),
        read_facts(finished(tmp_path / "b", clock_mhz="1500")),
    ]
    with pytest.raises(Exception, match=r"cannot stand side by side: board .*1500.*--anyway"):
        compare(runs)
    assert len(compare(runs, anyway=True)) == 2
    assert any("clock_mhz 1500" in said for said in differences(runs))


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no result yet; go on with it: hil-lab resume"):
        compare([read_facts(write_run(tmp_path, Fake(finished=False)))])


def test_rows_have_a_cell_for_every_column(tmp_path: Path) -> None:
    for group in compare(facts(tmp_path, 0.98, 0.95)):
        assert all(len(row) == len(COLUMNS) for row in cells(group))


def test_the_page_needs_nothing_else_and_escapes_names(tmp_path: Path) -> None:
    made = page(compare(facts(tmp_path, 0.98, 0.95)), ["board <b>two</b>"])
    assert "http" not in made.replace("http://www.w3.org", "")
    assert "&lt;b&gt;two" in made and "<b>two" not in made
    assert made.count("<circle") == 2


def test_the_command_prints_writes_and_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(finished(tmp_path / n, a).folder) for n, a in (("a", 0.98), ("b", 0.9))]
    out = tmp_path / "compare.html"
    assert main(["compare", *folders, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "98.00 % [97.7, 98.3] best" in printed
    assert out.read_text().startswith("<!doctype html>")
    assert main(["compare", *folders, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [p["told_apart_from_best"] for p in data["groups"][1]["programs"]] == [False, True]
    assert data["differences"] == []


def test_a_folder_that_is_no_run_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err
