"""`hil-lab sensitivity`: the KL table of a recipe's network."""

from __future__ import annotations

import argparse

from hil_lab.checks import check_recipe
from hil_lab.commands.search import recipe_of
from hil_lab.console import Reporter, RichReporter, Silent, print_json, print_table
from hil_lab.runs import start_run
from hil_lab.workbench import Workbench, versions
from host.sensitivity.table import SETTINGS, SensitivityTable


def run(arguments: argparse.Namespace) -> int:
    """Measure (or read from the cache) and print the table."""
    recipe = recipe_of(arguments)
    if arguments.explain:
        print_json(recipe.to_dict())
        return 0
    check_recipe(recipe)
    reporter: Reporter = Silent() if arguments.json else RichReporter()
    table = Workbench(start_run(recipe, versions()), reporter).sensitivity
    if arguments.json:
        print_json(table.to_dict())
        return 0
    shown = [s for s in SETTINGS if s.value]
    columns = ("layer", *(f"{s.kind} {s.value:g}" for s in shown))
    print_table(columns, [[layer, *_cells(table, layer)] for layer in table.layers])
    return 0


def _cells(table: SensitivityTable, layer: str) -> list[str]:
    return [
        f"{entry.kl:.3f}" if entry.supported else "-"
        for entry in table.row(layer)
        if entry.setting.value
    ]
