"""`hil-lab boards list`: every board with its state, its users, its conditions and its drift."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hil_lab.baselines import read_baseline
from hil_lab.console import print_json, print_table
from hil_lab.inventory import LOCAL, default_inventory, open_board
from host.boards.types import BoardInfo, Conditions
from host.errors import BoardError, CallerError
from host.store import Store
from protos.verdict import throttling

BUILT_IN = (LOCAL, "sim:rpi4")
DEFAULT_STORE = Path("runs/store.db")
COLUMNS = (
    "name", "kind", "state", "lease", "free in", "queue", "temp", "clock", "throttling", "noise",
    "drift", "tags", "why",
)  # fmt: skip
# All are asked at once, so that dead ones cost this much together; a person waits for the table.
DEADLINE_S = 3.0
AT_ONCE = 64


def print_list(*, json: bool, store: str | None = None) -> int:
    """Print what every board of the inventory and every built-in one says of itself.

    Drift and noise are the lab's own, from its store and the boards' baselines.
    """
    inventory = default_inventory()
    names = (*inventory, *(name for name in BUILT_IN if name not in inventory))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(pool.map(_state, names))
    with _lab(store) as lab:
        for name, row in zip(names, rows, strict=True):
            row["tags"] = list(inventory[name].tags) if name in inventory else []
            row |= _known(row, lab)
    if json:
        print_json(rows)
    else:
        print_table([c.upper() for c in COLUMNS], [_cells(row) for row in rows])
    return 0


@contextmanager
def _lab(named: str | None) -> Iterator[Store | None]:
    """Yield the store of the lab, None where there is none yet; raises CallerError."""
    path = Path(named or DEFAULT_STORE)
    if path.is_file():
        with closing(Store(path)) as store:
            yield store
    elif named:
        raise CallerError(f"{path}: no such store; name one with --store")
    else:
        yield None


def _state(name: str) -> dict[str, Any]:
    try:
        with open_board(name, deadline_s=DEADLINE_S) as client:
            info = client.describe()
            (now,) = client.telemetry(count=1)
    except (BoardError, CallerError) as e:
        return {"name": name, "state": "unreachable", "why": str(e)}
    return _row(name, info, now)


def _row(name: str, info: BoardInfo, now: Conditions) -> dict[str, Any]:
    bits = now.throttle_bits
    return {
        "name": name,
        "kind": info.kind,
        "arch": info.arch,
        "fingerprint": info.fingerprint_digest,
        "state": info.state,
        "lease": info.holder or "-",
        "held_s": info.held_s,
        "wait_s": info.wait_s,
        "queue": info.queue_length,
        "temperature_c": now.temperature_c,
        "clock_mhz": now.clock_mhz,
        "throttling": None if bits is None else list(throttling(bits)),
        "why": info.reason,
    }


def _known(row: dict[str, Any], lab: Store | None) -> dict[str, Any]:
    """Return what the lab knows of a board that answered: its last look, else its baseline."""
    fingerprint = row.pop("fingerprint", "")
    if not fingerprint:
        return {}
    look = lab.last_look(row["name"], fingerprint) if lab else None
    certified = read_baseline(row["name"]) or {}
    return {
        "noise_ratio": look.measured.noise_ratio if look else certified.get("noise_ratio"),
        "drift_ratio": look.drift_ratio if look else None,
        "looked_at": look.at if look else "",
        "why": row["why"] or (_doubt(lab, row["name"], fingerprint) if lab else ""),
    }


def _doubt(lab: Store, board: str, fingerprint: str) -> str:
    """Return why a search gave up a board that has not been looked at since, or ''."""
    reason = lab.quarantined(board, fingerprint)
    return f"at the last look {reason}" if reason else ""


def _cells(row: dict[str, Any]) -> list[str]:
    held = row.get("lease", "-")
    texts = {
        **row,
        "lease": held if held == "-" else f"{held}  {duration(row['held_s'])}",
        "free in": _free_in(row),
        "queue": row.get("queue") or "-",
        "temp": _number(row.get("temperature_c"), "{:.0f} C"),
        "clock": _number(row.get("clock_mhz"), "{:.0f} MHz"),
        "throttling": _throttling(row),
        "noise": _number(row.get("noise_ratio"), "{:.1%}"),
        "drift": _number(row.get("drift_ratio"), "{:+.1%}"),
        "tags": ",".join(row["tags"]),
    }
    return [str(texts.get(column, "")) for column in COLUMNS]


def _free_in(row: dict[str, Any]) -> str:
    """Return about when somebody who asks now would have the board."""
    if row["state"] not in ("leased", "measuring"):
        return "-"
    return "?" if row["wait_s"] is None else f"about {duration(row['wait_s'])}"


def _throttling(row: dict[str, Any]) -> str:
    found = row.get("throttling")
    return "-" if found is None else ", ".join(found) or "no"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def duration(seconds: float) -> str:
    """Return seconds in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
