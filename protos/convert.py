"""Dataclasses to messages or JSON and back, by field name; knows no message by name."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def to_message(kind: Any, value: Any) -> Any:
    """Return a message of class `kind` with the fields of a dataclass; None is left unset."""
    message = kind()
    fill(message, value)
    return message


def fill(message: Any, value: Any) -> None:
    """Set a message's fields from a dataclass; a field that the message lacks is an error."""
    for field in fields(value):
        content = getattr(value, field.name)
        if content is None:
            continue
        if hasattr(content, "__dataclass_fields__"):
            target = getattr(message, field.name)
            target.SetInParent()
            fill(target, content)
        elif isinstance(content, tuple):
            _extend(getattr(message, field.name), content)
        else:
            setattr(message, field.name, content)


def from_message(kind: type[T], message: Any) -> T:
    """Return a dataclass of class `kind` with the fields of a message; what is unset is None."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: _read(hints[name], message, name) for name in names})


def from_json(kind: type[T], data: Mapping[str, Any]) -> T:
    """Return a dataclass of class `kind` from the JSON form that dataclasses.asdict has."""
    hints = typing.get_type_hints(kind)
    return kind(**{name: _parsed(hints[name], content) for name, content in data.items()})


def _parsed(hint: Any, content: Any) -> Any:
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return None if content is None else _parsed(arguments[0], content)
    if typing.get_origin(hint) is tuple:
        return tuple(_parsed(arguments[0], item) for item in content)
    return from_json(hint, content) if hasattr(hint, "__dataclass_fields__") else content


def _extend(repeated: Any, items: Sequence[Any]) -> None:
    if items and hasattr(items[0], "__dataclass_fields__"):
        for item in items:
            fill(repeated.add(), item)
    else:
        repeated.extend(items)


def _read(hint: Any, message: Any, name: str) -> Any:
    content = getattr(message, name)
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        if not message.HasField(name):
            return None
        hint = arguments[0]
    elif typing.get_origin(hint) is tuple:
        item = arguments[0]
        is_value = hasattr(item, "__dataclass_fields__")
        return tuple(from_message(item, c) if is_value else c for c in content)
    return from_message(hint, content) if hasattr(hint, "__dataclass_fields__") else content
