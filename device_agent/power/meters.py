"""Meters by name: those of the kernel are found by themselves, those on USB are asked for."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from device_agent.errors import Unsupported
from device_agent.power import Meter, fnirsi, ina2xx, ina3221, joulescope, ppk2

AUTOMATIC: dict[str, ModuleType] = {"ina2xx": ina2xx, "ina3221": ina3221}
ASKED: dict[str, ModuleType] = {"joulescope": joulescope, "fnirsi": fnirsi, "ppk2": ppk2}
NONE = "none"


def meter(name: str = "", root: Path = Path("/")) -> Meter | None:
    """Return the meter of `NAME[:OPTION]`; '' is the first one of the kernel's, `none` is none.

    Raises Unsupported for a name that is unknown, and for a meter that was asked for and is not
    there.
    """
    if name == NONE:
        return None
    if not name:
        return next(
            (m for module in AUTOMATIC.values() if (m := _attached(module, root, ""))), None
        )
    kind, _, option = name.partition(":")
    module = {**AUTOMATIC, **ASKED}.get(kind)
    if module is None:
        known = ", ".join((*AUTOMATIC, *ASKED, NONE))
        raise Unsupported(f'unknown meter "{kind}"; known: {known}')
    found = _attached(module, root, option)
    if found is None:
        raise Unsupported(f"no {name} is attached to this machine")
    return found


def _attached(module: ModuleType, root: Path, option: str) -> Meter | None:
    found = module.find(root, option)
    if found is None:
        return None
    made: Meter = module.attach(found)
    return made
