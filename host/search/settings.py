"""Settings of strategies from a recipe's table: frozen dataclasses, wrong keys refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_origin, get_type_hints

from host.errors import RecipeError
from host.registry import did_you_mean

T = TypeVar("T")
_ALLOWED: dict[Any, tuple[type, ...]] = {
    float: (int, float),
    int: (int,),
    bool: (bool,),
    str: (str,),
    tuple: (list, tuple),
}


def settings_from(cls: type[T], table: Mapping[str, Any]) -> T:
    """Return settings from `[search.agent]`; raises RecipeError for an unknown or wrong one."""
    types = get_type_hints(cls)
    values = {}
    for name, value in table.items():
        if name not in types:
            raise RecipeError(f"search.agent.{name}: unknown key{did_you_mean(name, types)}")
        kind = get_origin(types[name]) or types[name]
        if type(value) not in _ALLOWED[kind]:
            raise RecipeError(f"search.agent.{name}: got {value!r}, which is not its kind of value")
        values[name] = tuple(value) if kind is tuple else value
    return cls(**values)
