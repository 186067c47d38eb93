"""What the name of a simulated board says: `sim:rpi4-2?seed=1&fault=hang`; makes no board."""

from __future__ import annotations

import re
from dataclasses import fields
from urllib.parse import parse_qsl

from hil_lab.simboard.board import CLOCKS_MHZ, KIND, SimSettings
from hil_lab.simboard.faults import FAULTS
from hil_lab.simboard.noise import FIRST_UNIT
from host.errors import CallerError
from host.registry import did_you_mean


def sim_settings(name: str) -> SimSettings:
    """Read `sim:rpi4-2?seed=1&fault=hang&pace=1`; raises CallerError for what it does not know."""
    board, _, query = name.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = {f.name for f in fields(SimSettings)} - {"unit"}
    for key in options:
        if key not in known:
            raise CallerError(f'{name}: unknown key "{key}"{did_you_mean(key, known)}')
    fault = options.get("fault")
    if fault and fault not in FAULTS:
        raise CallerError(f'{name}: unknown fault "{fault}"{did_you_mean(fault, FAULTS)}')
    try:
        seed = int(options.get("seed", 0))
        clock_mhz = int(options.get("clock_mhz", CLOCKS_MHZ[-1]))
    except ValueError as e:
        raise CallerError(f"{name}: seed and clock_mhz are integers") from e
    if clock_mhz not in CLOCKS_MHZ:
        raise CallerError(f"{name}: clock_mhz is one of {', '.join(map(str, CLOCKS_MHZ))}")
    pace = _pace(name, options.get("pace", "0"))
    return SimSettings(seed, clock_mhz, fault or None, unit_of(board) or FIRST_UNIT, pace)


def unit_of(board: str) -> int | None:
    """Return which board of a simulated rack a name is, None where it is no simulated board."""
    found = re.fullmatch(rf"{re.escape(KIND)}(?:-([1-9]\d*))?", board)
    return None if found is None else int(found[1] or FIRST_UNIT)


def is_simulated(name: str) -> bool:
    """Whether a name is one of a simulated board; raises CallerError for one that is almost."""
    if unit_of(name.partition("?")[0]):
        return True
    if name.startswith("sim:"):
        raise CallerError(f'no simulated board "{name}"{did_you_mean(name, [KIND])}')
    return False


def _pace(name: str, text: str) -> float:
    try:
        pace = float(text)
    except ValueError as e:
        raise CallerError(f"{name}: pace is a number, 1 for time as it passes") from e
    if not 0.0 <= pace <= 1000.0:
        raise CallerError(f"{name}: pace is at least 0 (no waiting) and at most 1000")
    return pace
