"""`hil-lab boards list`: every board with its state, its lease, its queue and its conditions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hil_lab.console import print_json, print_table
from hil_lab.inventory import LOCAL, default_inventory, open_board
from host.errors import BoardError, CallerError

BUILT_IN = (LOCAL, "sim:rpi4")
COLUMNS = ("name", "kind", "state", "lease", "queue", "temp", "clock", "tags", "why")
AT_ONCE = 16


def print_list(*, json: bool) -> int:
    """Print what every board of the inventory and every built-in one says of itself."""
    inventory = default_inventory()
    names = (*inventory, *(name for name in BUILT_IN if name not in inventory))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(pool.map(_state, names))
    for name, row in zip(names, rows, strict=True):
        row["tags"] = list(inventory[name].tags) if name in inventory else []
    if json:
        print_json(rows)
    else:
        print_table([c.upper() for c in COLUMNS], [_cells(row) for row in rows])
    return 0


def _state(name: str) -> dict[str, Any]:
    try:
        with open_board(name) as client:
            info = client.describe()
            (now,) = client.telemetry(count=1)
    except (BoardError, CallerError) as e:
        return {"name": name, "state": "unreachable", "why": str(e)}
    return {
        "name": name,
        "kind": info.kind,
        "arch": info.arch,
        "state": info.state,
        "lease": info.holder or "-",
        "held_s": info.held_s,
        "queue": info.queue_length,
        "temperature_c": now.temperature_c,
        "clock_mhz": now.clock_mhz,
        "why": info.reason,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    held = row.get("lease", "-")
    texts = {
        **row,
        "lease": held if held == "-" else f"{held}  {duration(row['held_s'])}",
        "queue": row.get("queue") or "-",
        "temp": _unit(row.get("temperature_c"), "C"),
        "clock": _unit(row.get("clock_mhz"), "MHz"),
        "tags": ",".join(row["tags"]),
    }
    return [str(texts.get(column, "")) for column in COLUMNS]


def _unit(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f} {unit}"


def duration(seconds: float) -> str:
    """Return seconds in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
