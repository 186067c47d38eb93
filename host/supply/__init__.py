"""Switches of boards' power: one module each, with `on` and `off`; never decide when.

```toml
[boards.pi4-01.supply]
kind = "command"
on = "uhubctl -l 1-1 -p 2 -a on"
off = "uhubctl -l 1-1 -p 2 -a off"
```
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from host.errors import CallerError, RecipeError
from host.registry import check_name, did_you_mean

# Kind -> module; each has `Settings`, `on(settings)` and `off(settings)`.
KINDS = {
    "command": "host.supply.command",
    "gpio": "host.supply.gpio",
    "mqtt": "host.supply.mqtt",
    "labgrid": "host.supply.labgrid",
}
# Capacitors keep a Pi alive for a while.
OFF_S = 5.0


@dataclass(frozen=True, slots=True)
class Supply:
    """A board's switch."""

    kind: str
    settings: Any

    def on(self) -> None:
        """Switch on; raises SupplyError where that fails."""
        _module(self.kind).on(self.settings)

    def off(self) -> None:
        """Switch off; raises SupplyError where that fails."""
        _module(self.kind).off(self.settings)

    def cycle(self, sleep: Callable[[float], None] = time.sleep, off_s: float = OFF_S) -> None:
        """Switch off, wait, and switch on again."""
        self.off()
        sleep(off_s)
        self.on()


def supply_from(table: Mapping[str, Any], where: str) -> Supply:
    """Return the switch of a table `supply`; raises RecipeError that names the wrong key."""
    kind = str(table.get("kind"))
    check_name(f"{where}.kind", kind, KINDS)
    settings = _module(kind).Settings
    known = {f.name: f for f in fields(settings)}
    values = {key: value for key, value in table.items() if key != "kind"}
    for key in values:
        if key not in known:
            raise RecipeError(f"{where}.{key}: unknown key{did_you_mean(key, known)}")
    for name, spec in known.items():
        if name not in values and spec.default is MISSING:
            raise RecipeError(f"{where}.{name}: must be given")
    return Supply(kind, settings(**values))


def extra(module: str, package: str) -> Any:
    """Import the library of an optional kind, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        raise CallerError(f"this supply needs {package}: pip install {package}") from e


def _module(kind: str) -> Any:
    return importlib.import_module(KINDS[kind])
