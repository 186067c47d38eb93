"""Which boards of an inventory a text means: names, and filters such as `tag=rack1&kind=rpi4`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from host.errors import CallerError
from host.registry import did_you_mean


class Entry(Protocol):
    """What a filter looks at."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def tags(self) -> tuple[str, ...]: ...


E = TypeVar("E", bound=Entry)
FILTERS: Mapping[str, Callable[[Entry, str], bool]] = {
    "tag": lambda entry, value: value in entry.tags,
    "kind": lambda entry, value: value == entry.kind,
}


def is_filter(selector: str) -> bool:
    """Whether a text describes boards instead of naming one."""
    return "=" in selector and "?" not in selector


def matching(inventory: Mapping[str, E], selector: str, others: Sequence[str] = ()) -> list[E]:
    """Return the boards that a name or all conditions of a filter fit; none is an error.

    `others` are names that are no matter of the inventory, for the hint.
    """
    if selector in inventory:
        return [inventory[selector]]
    if not is_filter(selector):
        raise CallerError(f'no board "{selector}"{did_you_mean(selector, [*inventory, *others])}')
    conditions = [_condition(part, selector) for part in selector.split("&")]
    found = [
        entry
        for entry in inventory.values()
        if all(FILTERS[key](entry, value) for key, value in conditions)
    ]
    if not found:
        raise CallerError(f'no board "{selector}"{_hint(inventory, conditions)}')
    return found


def _condition(text: str, selector: str) -> tuple[str, str]:
    key, _, value = (part.strip() for part in text.partition("="))
    if key not in FILTERS:
        raise CallerError(f'{selector}: unknown key "{key}"{did_you_mean(key, FILTERS)}')
    if not value:
        raise CallerError(f"{selector}: write {key}=NAME")
    return key, value


def _hint(inventory: Mapping[str, E], conditions: Sequence[tuple[str, str]]) -> str:
    """Return what a value may have meant, of the first condition that no board fits."""
    for key, value in conditions:
        entries = inventory.values()
        if not any(FILTERS[key](entry, value) for entry in entries):
            tags = {tag for entry in entries for tag in entry.tags}
            known = tags if key == "tag" else {entry.kind for entry in entries}
            return f": no {key} {value}{did_you_mean(value, known)}"
    return ": no board fits all of it"
