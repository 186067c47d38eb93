"""`hil-lab dataset`: collect measurements of many programs, and export them as tables."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from hil_lab.choice import at_most
from hil_lab.commands.search import overrides_of
from hil_lab.console import Reporter, RichReporter, Silent, print_json, print_text
from hil_lab.dataset import DEFAULT_FOLDER, collect, open_dataset, read_dataset_recipe
from hil_lab.inventory import board_names
from hil_lab.recordings import recording
from host.dataset.files import write, write_sheet
from host.errors import CallerError


def run(arguments: argparse.Namespace) -> int:
    """Run one of the actions."""
    return {"collect": _collect, "export": _export}[arguments.action](arguments)


def _collect(arguments: argparse.Namespace) -> int:
    overrides = overrides_of(arguments.set)
    if arguments.board:
        overrides["board"] = [name for names in arguments.board for name in names.split(",")]
    if arguments.count:
        overrides["count"] = arguments.count
    recipe = read_dataset_recipe(Path(arguments.name), overrides)
    if arguments.boards:
        recipe = replace(recipe, board=at_most(arguments.boards, board_names(recipe.board)))
    recipe = replace(recipe, board=tuple(recording(recipe.board, arguments.record)))
    reporter: Reporter = Silent() if arguments.json else RichReporter()
    dataset, measured = collect(recipe, Path(arguments.folder or DEFAULT_FOLDER), reporter)
    verdicts = dataset.sheet.to_dict(dataset.table())["verdicts"]
    if arguments.json:
        kept = {"dataset": str(dataset.folder), "measured": measured, "asked": recipe.count}
        print_json({**kept, "verdicts": verdicts})
    else:
        said = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
        print_text(f"{measured} of {recipe.count} programs in {dataset.folder}: {said}")
        if measured < recipe.count:
            print_text("there are no more programs in this space: widen its ranges")
        print_text(f"next   hil-lab dataset export {dataset.folder} -o {recipe.name}.parquet")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    if not arguments.out:
        raise CallerError("name a file: hil-lab dataset export NAME -o NAME.parquet (or .csv)")
    dataset = open_dataset(arguments.name)
    table, sheet = dataset.table(), dataset.sheet
    files = [Path(out) for out in arguments.out]
    for path in files:
        write(path, table, sheet)
    about = files[0].with_suffix(".md")
    write_sheet(about, table, sheet, files)
    if arguments.json:
        print_json({**sheet.to_dict(table), "files": [str(path) for path in (*files, about)]})
    else:
        named = ", ".join(str(path) for path in files)
        print_text(f"{len(table.rows)} rows in {named}; {about} says what they mean")
    return 0
