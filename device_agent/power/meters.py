"""Meters by name: those of the kernel are found by themselves, those on USB are asked for."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from device_agent.errors import Unsupported
from device_agent.power import Meter, fnirsi, ina2xx, ina3221, joulescope, ppk2
from device_agent.power.gpio import Line, check

AUTOMATIC: dict[str, ModuleType] = {"ina2xx": ina2xx, "ina3221": ina3221}
ASKED: dict[str, ModuleType] = {"joulescope": joulescope, "fnirsi": fnirsi, "ppk2": ppk2}
# Those that record an input beside the power, which a line of the board may be wired to.
WIRED: dict[str, ModuleType] = {"ppk2": ppk2}
NONE = "none"


def meter(name: str = "", root: Path = Path("/"), line: str = "") -> Meter | None:
    """Return the meter of `NAME[:OPTION]`; '' is the first one of the kernel's, `none` is none.

    `line` is one of the board's that is wired to the meter: its edges align the clocks. Raises
    Unsupported for a name that is unknown, for a meter that was asked for and is not there, and for
    a line that cannot be driven or that the meter does not see.
    """
    if line:
        return _wired(name, root, Line.parse(line))
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


def _wired(name: str, root: Path, line: Line) -> Meter:
    """Return a meter that sees a line of the board."""
    kind, _, option = name.partition(":")
    if kind not in WIRED:
        raise Unsupported(f"only {', '.join(WIRED)} see a line of the board: leave {line} out")
    check(line)
    module = WIRED[kind]
    found = module.find(root, option)
    if found is None:
        raise Unsupported(f"no {name} is attached to this machine")
    made: Meter = module.attach(found, line)
    return made


def _attached(module: ModuleType, root: Path, option: str) -> Meter | None:
    found = module.find(root, option)
    if found is None:
        return None
    made: Meter = module.attach(found)
    return made
