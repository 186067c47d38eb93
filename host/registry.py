"""Names to factories, one registry per kind; unknown and duplicate names are errors with a hint."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from host.errors import CallerError, RecipeError

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return '; did you mean "x"?' for a near miss, else '; known: a, b, c'."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f'; did you mean "{close[0]}"?' if close else f"; known: {', '.join(names)}"


def check_name(key: str, name: str, known: Iterable[str]) -> None:
    """Raise RecipeError, with a hint, where nothing answers to the name that a key has."""
    names = tuple(known)
    if name not in names:
        raise RecipeError(f'{key}: unknown name "{name}"{did_you_mean(name, names)}')


class Registry(Generic[T]):
    """A dictionary of factories that is filled by a decorator."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._factories: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Register a factory under a name; a second one of that name is a bug."""

        def add(factory: T) -> T:
            if name in self._factories:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._factories[name] = factory
            return factory

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._factories:
            raise CallerError(f'unknown {self.kind} "{name}"{did_you_mean(name, self._factories)}')
        return self._factories[name]

    def __contains__(self, name: object) -> bool:
        return name in self._factories

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._factories))
