"""A run's page: one HTML file that needs nothing else, drawn from what the run left on disk.

Imports neither torch nor TVM: a report can be written wherever the run folder and the store are.
"""

from __future__ import annotations

import os
from pathlib import Path

from hil_lab.report.facts import read_facts
from hil_lab.report.page import render
from hil_lab.runs import Run
from host.errors import StoreError

REPORT = "report.html"

__all__ = ["REPORT", "write_report"]


def write_report(run: Run) -> Path:
    """Write report.html and return its path; an unfinished run gets a page that says so."""
    page, path = render(read_facts(run)), run.path(REPORT)
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as e:
        raise StoreError(f"cannot write {path}: {e.strerror}; free some space and try again") from e
    return path
