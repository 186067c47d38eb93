"""What can be known to be wrong with a recipe before any work starts; starts and opens nothing."""

from __future__ import annotations

from hil_lab.inventory import board_names
from hil_lab.recipe import Recipe
from host.boards.protocol import PROTOCOLS
from host.cost import COSTS
from host.data import DATASETS
from host.errors import RecipeError
from host.registry import check_name
from host.search.reward import REWARDS
from host.search.settings import settings_from
from host.search.strategy import strategies


def check_recipe(recipe: Recipe) -> None:
    """Raise CallerError for the first name that nothing answers to."""
    table, measure = recipe.search, recipe.measure
    named = (
        ("data", recipe.data, DATASETS),
        ("search.strategy", table.strategy, strategies()),
        ("search.reward", table.reward, REWARDS),
        ("search.cost", table.cost, COSTS),
        ("measure.search", measure.search, PROTOCOLS),
        ("measure.report", measure.report, PROTOCOLS),
    )
    for key, name, known in named:
        check_name(key, name, known)
    settings = strategies()[table.strategy].settings
    if settings is not None:
        settings_from(settings, table.agent)
    elif table.agent:
        name = next(iter(table.agent))
        raise RecipeError(f"search.agent.{name}: unknown key; {table.strategy} takes none")
    board_names(recipe.board)
