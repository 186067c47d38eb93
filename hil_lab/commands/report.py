"""`hil-lab report`: write a run's page again, and show it."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from hil_lab.console import print_text
from hil_lab.report import write_report
from hil_lab.runs import open_run


def run(arguments: argparse.Namespace) -> int:
    """Write report.html."""
    page = write_report(open_run(Path(arguments.run)))
    print_text(str(page))
    if arguments.open:
        webbrowser.open(page.resolve().as_uri())
    return 0
