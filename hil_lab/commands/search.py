"""`hil-lab search`, `demo` and `resume`: a recipe or a run in, a result and a report out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from hil_lab.checks import check_recipe
from hil_lab.choice import at_most
from hil_lab.console import Reporter, RichReporter, Silent, print_json, print_table, print_text
from hil_lab.experiment import leased
from hil_lab.finish import finish, table
from hil_lab.inventory import board_names
from hil_lab.recipe import Recipe, read_recipe
from hil_lab.recordings import recording
from hil_lab.report import write_report
from hil_lab.runs import Run, open_run, start_run
from hil_lab.workbench import Workbench, versions
from host.errors import RecipeError
from host.registry import did_you_mean

COLUMNS = (
    "", "accuracy (test)", "latency [95 % CI]", "of fp32", "size", "papers' formula", "from",
)  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Start a new run."""
    recipe = recipe_of(arguments)
    if arguments.explain:
        print_json(recipe.to_dict())
        return 0
    check_recipe(recipe)
    names = at_most(arguments.boards, board_names(recipe.board))
    recipe = replace(recipe, board=tuple(recording(names, arguments.record)))
    return _go(start_run(recipe, versions()), arguments)


def resume(arguments: argparse.Namespace) -> int:
    """Go on with an existing run."""
    return _go(open_run(Path(arguments.run)), arguments)


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """Return the recipe that the arguments name, with their overrides."""
    overrides = overrides_of(arguments.set)
    if arguments.board:
        overrides["board"] = [name for text in arguments.board for name in text.split(",")]
    if arguments.target:
        overrides["search.target"] = [_number(part) for part in arguments.target.split(",")]
    if arguments.seed is not None:
        overrides["search.seed"] = arguments.seed
    return read_recipe(recipe_path(arguments.recipe), overrides)


def overrides_of(items: Sequence[str]) -> dict[str, Any]:
    """Return recipe keys and values from `--set KEY=VALUE`."""
    overrides: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise RecipeError(f"--set {item}: write KEY=VALUE")
        overrides[key] = _value(value)
    return overrides


def recipe_path(name: str) -> Path:
    """Return a recipe file: a path, or the name of a built-in recipe."""
    path = Path(name)
    if path.is_file() or path.suffix == ".toml":
        return path
    folder = Path(str(files("hil_lab"))) / "recipes"
    built_in = {p.stem: p for p in folder.glob("*.toml")}
    if name not in built_in:
        raise RecipeError(f'no recipe "{name}"{did_you_mean(name, built_in)}')
    return built_in[name]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as e:
        raise RecipeError(f"--target {text}: must be a number such as 0.3") from e


def _value(text: str) -> Any:
    """Read a value as TOML does; bare words are strings."""
    import tomllib

    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _go(run: Run, arguments: argparse.Namespace) -> int:
    reporter: Reporter = Silent() if arguments.json else RichReporter()
    with run.locked():
        bench = Workbench(run, reporter)
        _banner(bench)
        with leased(bench) as search:
            result = finish(search, search.searches())
        page = write_report(run)
    if arguments.json:
        print_json(result)
        return 0
    print_table(COLUMNS, table(result))
    print_text(f"\nrun    {run.folder}      report  {page}")
    print_text("next   hil-lab search --help   README: your own network")
    return 0


def _banner(bench: Workbench) -> None:
    made = versions()
    bench.reporter.say(
        f"hil-lab {version('hil-lab')}   python {made['python']}   torch {made['torch']}   "
        f"tvm {made['apache-tvm']}   board {', '.join(bench.recipe.board)}"
    )
