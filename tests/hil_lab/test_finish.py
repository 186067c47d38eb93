"""The final table says how much smaller a program is, in bytes and as papers count."""

from __future__ import annotations

from pathlib import Path

from hil_lab.finish import table
from tests.hil_lab.report_run import write_run


def test_sizes_stand_beside_the_papers_formula(tmp_path: Path) -> None:
    rows = table(write_run(tmp_path).read("result.json"))
    assert [row[4:6] for row in rows] == [
        ["40.0 kB", "1.00x"],
        ["24.0 kB, 1.67x smaller", "4.00x"],
        ["20.2 kB, 1.98x smaller", "16.00x"],
    ]
