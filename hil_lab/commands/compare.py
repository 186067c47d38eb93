"""`hil-lab compare`: finished runs side by side, as a table, a page or JSON."""

from __future__ import annotations

import argparse
from pathlib import Path

from hil_lab.console import print_json, print_table, print_text
from hil_lab.report import side_by_side
from hil_lab.report.comparison import compare, differences
from hil_lab.report.facts import read_facts
from hil_lab.runs import open_run
from host.errors import StoreError


def run(arguments: argparse.Namespace) -> int:
    """Compare, print, and write a page where one was asked for."""
    runs = [read_facts(open_run(Path(folder))) for folder in arguments.runs]
    groups, remarks = compare(runs, anyway=arguments.anyway), differences(runs)
    if arguments.out:
        try:
            side_by_side.write(Path(arguments.out), groups, remarks)
        except OSError as e:
            raise StoreError(f"cannot write {arguments.out}: {e.strerror}") from e
    if arguments.json:
        print_json({"groups": [group.to_dict() for group in groups], "differences": remarks})
        return 0
    for remark in remarks:
        print_text(f"not alike: {remark}\n")
    for group in groups:
        print_text(side_by_side.title(group))
        print_table(side_by_side.COLUMNS, side_by_side.cells(group))
        print_text("")
    if arguments.out:
        print_text(arguments.out)
    return 0
