"""`hil-lab boards acquire|release|reset|power`: a board by hand, and what keeps it in order."""

from __future__ import annotations

import argparse
import getpass
import platform
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from hil_lab.commands.listing import duration
from hil_lab.console import print_json, print_text
from hil_lab.inventory import open_board, supply_of
from host.boards.care import Care, awaited
from host.boards.client import BoardClient
from host.boards.session import BoardSession
from host.errors import BoardBusy, BoardUnreachable, CallerError
from host.registry import did_you_mean
from host.supply import Supply

WAIT_S = 24 * 3600.0
LOOK_S = 0.5
SWITCHES = ("on", "off", "cycle")


def acquire(name: str, arguments: argparse.Namespace) -> int:
    """Hold a board until ctrl-c or SIGTERM; raises LeaseLost where somebody ends the lease."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        care = Care(print_text)
        with (
            open_board(name) as client,
            client.lease(f"{getpass.getuser()}@{platform.node()}", wait_s=WAIT_S, care=care) as own,
        ):
            print_text(f"held     {name}; ctrl-c gives it back")
            _hold(own, stopped)
    except KeyboardInterrupt:
        stopped.set()
    print_text(f"free     {name}")
    return 0


def _hold(session: BoardSession, stopped: threading.Event) -> None:
    while not stopped.wait(LOOK_S):
        if session.lost:
            raise session.lost


def release(name: str, arguments: argparse.Namespace) -> int:
    """End somebody's lease and say whose it was."""
    with open_board(name) as client:
        holder, held_s = client.end_lease()
    if arguments.json:
        print_json({"board": name, "holder": holder, "held_s": held_s})
    elif holder:
        print_text(f"{name}: ended the lease of {holder}, held for {duration(held_s)}")
    else:
        print_text(f"{name}: nobody holds it")
    return 0


def reset(name: str, arguments: argparse.Namespace) -> int:
    """End a quarantine, after a look at the board, and on request after its power was cycled."""
    with open_board(name) as client:
        if arguments.power:
            _cycled(name, client)
        was = client.reset()
        info, (now,) = client.describe(), client.telemetry(count=1)
    seen = {"state": info.state, "temperature_c": now.temperature_c, "clock_mhz": now.clock_mhz}
    if arguments.json:
        print_json({"board": name, "was": was, **seen})
    else:
        print_text(f"{name}: {f'was quarantined: {was}' if was else 'was not quarantined'}")
        print_text(", ".join(f"{key} {value}" for key, value in seen.items() if value is not None))
    return 0


def _cycled(name: str, client: BoardClient) -> None:
    """Switch a board off and on, and wait until it answers."""
    supply, care = _switch(name), Care(print_text)
    _refuse_held(name)
    print_text(f"power    {name}: switching it off and on")
    supply.cycle()
    awaited(client.describe, BoardUnreachable(name), replace(care, back_s=care.boot_s))


def power(name: str, arguments: argparse.Namespace) -> int:
    """Switch a board's power; one that somebody holds stays on."""
    if arguments.what not in SWITCHES:
        hint = did_you_mean(str(arguments.what), SWITCHES)
        raise CallerError(f'power: unknown "{arguments.what}"{hint}')
    supply = _switch(name)
    if arguments.what != "on":
        _refuse_held(name)
    actions: Mapping[str, Callable[[], None]] = {
        "on": supply.on,
        "off": supply.off,
        "cycle": supply.cycle,
    }
    actions[arguments.what]()
    if arguments.json:
        print_json({"board": name, "power": arguments.what})
    else:
        print_text(f"{name}: power {arguments.what}")
    return 0


def _switch(name: str) -> Supply:
    supply = supply_of(name)
    if supply is None:
        raise CallerError(f"{name} has no supply: add [boards.{name}.supply] to boards.toml")
    return supply


def _refuse_held(name: str) -> None:
    try:
        with open_board(name) as client:
            holder = client.describe().holder
    except BoardUnreachable:
        return
    if holder:
        raise BoardBusy(f"{name} is leased by {holder}; hil-lab boards release {name} comes first")


CARE: Mapping[str, Callable[[str, argparse.Namespace], int]] = {
    "acquire": acquire,
    "release": release,
    "reset": reset,
    "power": power,
}
