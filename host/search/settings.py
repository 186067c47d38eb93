"""Settings of a strategy: a recipe's table in, a frozen dataclass out, unknown keys refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from host.errors import RecipeError
from host.registry import did_you_mean

T = TypeVar("T")
WHERE = "search.agent"
# Which types of a TOML file a field takes; bool is no int here.
_TAKES: dict[Any, tuple[type, ...]] = {
    float: (int, float),
    int: (int,),
    bool: (bool,),
    str: (str,),
}


def settings_from(cls: type[T], table: Mapping[str, Any]) -> T:
    """Return a dataclass filled from a table; raises RecipeError for an unknown or wrong key."""
    types = get_type_hints(cls)
    values = {}
    for name, value in table.items():
        if name not in types:
            raise RecipeError(f"{WHERE}.{name}: unknown key{did_you_mean(name, types)}")
        values[name] = _value(name, value, types[name])
    try:
        return cls(**values)
    except RecipeError as e:
        raise RecipeError(f"{WHERE}.{e}") from e


def _value(name: str, value: Any, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            known = did_you_mean(str(value), get_args(kind))
            raise RecipeError(f"{WHERE}.{name}: unknown value {value!r}{known}")
        return value
    if get_origin(kind) is tuple:
        return _values(name, value, get_args(kind))
    if type(value) not in _TAKES.get(kind, ()):
        raise RecipeError(f"{WHERE}.{name}: got {value!r}, which is not its kind of value")
    return value


def _values(name: str, values: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a tuple of as many numbers as the field has, any number where it does not say."""
    if isinstance(values, (list, tuple)) and kinds[1:] == (...,):
        kinds = kinds[:1] * len(values)
    if not isinstance(values, (list, tuple)) or len(values) != len(kinds):
        raise RecipeError(f"{WHERE}.{name}: takes a list of {len(kinds)} values, got {values!r}")
    return tuple(_value(name, value, kind) for value, kind in zip(values, kinds, strict=True))
