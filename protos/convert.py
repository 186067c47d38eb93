"""Dataclasses to messages and back, by field name; knows no message by name."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
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
