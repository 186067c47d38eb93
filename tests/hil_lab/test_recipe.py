"""Recipes: what is refused, by which path and with which hint; and what the README must name."""

from __future__ import annotations

import argparse
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from hil_lab.cli import make_parser
from hil_lab.commands import COMMANDS
from hil_lab.commands.search import recipe_of
from hil_lab.recipe import Recipe, SearchTable, build, put, read_recipe
from host.errors import RecipeError

README = Path(__file__).parents[2] / "README.md"
BUILT_IN = sorted(Path(str(files("hil_lab"))).joinpath("recipes").glob("*.toml"))
SMALL = 'model = "digits-cnn"\ndata = "digits"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_two_keys_make_a_recipe(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, SMALL))
    assert recipe == Recipe(model="digits-cnn", data="digits")
    assert recipe.search == SearchTable()


@pytest.mark.parametrize("path", BUILT_IN, ids=lambda p: p.stem)
def test_built_in_recipe_reads(path: Path) -> None:
    assert read_recipe(path).model


def test_demo_is_the_built_in_digits_recipe() -> None:
    assert make_parser().parse_args(["demo"]).recipe in [path.stem for path in BUILT_IN]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL + "[search]\nepisods = 3", 'search.episods: unknown key; did you mean "episodes"?'),
        (SMALL + "modle = 3", 'modle: unknown key; did you mean "model"?'),
        (SMALL + "zzz = 3", "zzz: unknown key; known: board, "),
        ('model = "digits-cnn"', "data: must be given"),
        (SMALL + "search = 3", "search: must be a table"),
        (SMALL + '[search]\nepisodes = "many"', "search.episodes: must be a whole number"),
        (SMALL + "[search]\nepisodes = 2.5", "search.episodes: must be a whole number"),
        (SMALL + "[search]\nepisodes = true", "search.episodes: must be a whole number"),
        (SMALL + "[search]\nepisodes = 0", "search.episodes: must be at least 1"),
        (SMALL + '[search]\nbeta = "x"', "search.beta: must be a number"),
        (SMALL + "[search]\nstrategy = 3", "search.strategy: must be a string"),
        (SMALL + "[search]\ntarget = 1.5", "search.target: must lie in (0, 1]"),
        (SMALL + "[search]\ntarget = []", "search.target: must lie in (0, 1]"),
        (SMALL + '[search]\nfreeze = ["fc", 1]', "search.freeze: must be a string, got 1"),
        (SMALL + "[search]\nround_to = 0", "search.round_to: must be at least 1"),
        (SMALL + "board = []", "board: must name a board"),
        (SMALL + "board = ['local', 3]", "board: must be a string, got 3"),
        (SMALL + "[search]\nmarking = 'expect'", 'marking: unknown name "expect"; did you mean'),
        (
            SMALL + "[search]\nmarking = 'expected'\nearly_stop = true",
            'search.early_stop: counts answers; leave search.marking "counted"',
        ),
        (SMALL + "[measure]\nfleet = 'medan'", 'measure.fleet: unknown name "medan"; did you mean'),
        (SMALL + "[finetune]\nstage_warmup = 1.5", "finetune.stage_warmup: must lie in [0, 1]"),
        (SMALL + "[finetune]\ncutout_px = -1", "finetune.cutout_px: must not be negative"),
        (SMALL + "model = 1", ""),
        ("model = ", ""),
    ],
)
def test_wrong_recipe_is_refused_by_path(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(written(tmp_path, text))
    said = str(caught.value)
    assert re.search(r"mine\.toml: ", said)
    assert message in said
    assert "\n" not in said


def test_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        read_recipe(tmp_path / "none.toml")


def test_one_target_and_several_are_both_lists(tmp_path: Path) -> None:
    one = read_recipe(written(tmp_path, SMALL + "[search]\ntarget = 0.2"))
    several = read_recipe(written(tmp_path, SMALL + "[search]\ntarget = [0.2, 1]"))
    assert one.search.target == (0.2,)
    assert several.search.target == (0.2, 1.0)


def test_one_board_and_several_are_both_lists(tmp_path: Path) -> None:
    one = read_recipe(written(tmp_path, "board = 'local'\n" + SMALL))
    several = read_recipe(written(tmp_path, "board = ['pi4-01', 'tag=rack2']\n" + SMALL))
    assert one.board == ("local",)
    assert several.board == ("pi4-01", "tag=rack2")


def test_boards_on_the_command_line_are_repeated_or_have_commas(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL)
    line = ["search", str(path), "--board", "a,b", "--board", "sim:rpi4-2?seed=1&clock_mhz=1500"]
    recipe = recipe_of(make_parser().parse_args(line))
    assert recipe.board == ("a", "b", "sim:rpi4-2?seed=1&clock_mhz=1500")


def test_whole_numbers_serve_as_numbers(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, SMALL + "[search]\nbeta = -5"))
    assert isinstance(recipe.search.beta, float)


def test_overrides_reach_into_tables_and_make_them(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL + "[search]\nseed = 3")
    recipe = read_recipe(path, {"search.seed": 4, "train.epochs": 2, "board": "local"})
    assert (recipe.search.seed, recipe.train.epochs, recipe.board) == (4, 2, ("local",))


def test_unknown_override_is_refused_like_a_key(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r'finetune\.final_epoch: unknown key; did you mean "fin'):
        read_recipe(written(tmp_path, SMALL), {"finetune.final_epoch": 2})


def test_put_makes_missing_tables() -> None:
    table: dict[str, Any] = {}
    put(table, "search.agent.tau", 0.5)
    assert table == {"search": {"agent": {"tau": 0.5}}}


def test_recipe_survives_its_json() -> None:
    recipe = Recipe("a", "b", search=SearchTable(target=(0.2, 0.5), agent={"tau": 0.5}))
    assert build(Recipe, recipe.to_dict()) == recipe


def test_readme_names_every_command() -> None:
    text = README.read_text()
    assert [name for name in COMMANDS if f"hil-lab {name}" not in text] == []


def test_readme_names_every_option() -> None:
    text, parser = README.read_text(), make_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    options = {
        option
        for sub in commands.choices.values()
        for action in sub._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }
    assert sorted(option for option in options if option not in text) == []


def test_readme_names_every_strategy_data_set_reward_and_fault() -> None:
    from hil_lab.simboard.faults import FAULTS
    from host.data.load import DATASETS
    from host.search import baselines, galen  # noqa: F401  fill the registry
    from host.search.reward import REWARDS
    from host.search.strategy import STRATEGIES

    text = README.read_text()
    names = [*STRATEGIES, *DATASETS, *REWARDS, *FAULTS]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_readme_states_the_agents_defaults() -> None:
    from host.search.agents.ddpg import DDPGSettings

    text, settings = README.read_text(), DDPGSettings()
    for name in ("gamma", "tau", "updates_per_step", "warmup_episodes", "imitation"):
        assert f"`{name} = {getattr(settings, name):g}`" in text


def test_recipes_in_the_readme_read(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    recipes = [block for block in blocks if "model =" in block]
    assert recipes
    for block in recipes:
        assert read_recipe(written(tmp_path, block)).data
