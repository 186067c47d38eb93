"""`hil-lab train`: train a recipe's network and keep it as a checkpoint."""

from __future__ import annotations

import argparse

from hil_lab.checks import check_recipe
from hil_lab.commands.search import recipe_of
from hil_lab.console import Reporter, RichReporter, Silent, print_json, print_text
from hil_lab.runs import start_run
from hil_lab.workbench import TRAINED, Workbench, versions
from host.compress.finetune import accuracy, ratio


def run(arguments: argparse.Namespace) -> int:
    """Train, and print where the checkpoint is."""
    recipe = recipe_of(arguments)
    if arguments.explain:
        print_json(recipe.to_dict())
        return 0
    check_recipe(recipe)
    started = start_run(recipe, versions())
    reporter: Reporter = Silent() if arguments.json else RichReporter()
    bench = Workbench(started, reporter)
    share = ratio(accuracy(bench.network, "validation", bench.data))
    checkpoint = recipe.checkpoint or str(started.path(TRAINED))
    if arguments.json:
        print_json({"checkpoint": checkpoint, "validation": share})
    else:
        print_text(f"checkpoint  {checkpoint}   {share:.2%} on validation")
    return 0
