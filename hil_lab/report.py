"""A run's page: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from hil_lab.runs import Run


def write_report(run: Run) -> Path:
    """Write report.html and return its path."""
    return run.path("report.html")
