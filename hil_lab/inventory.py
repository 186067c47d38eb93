"""Boards by name: a TOML inventory and two that need none; opens a client, never measures.

```toml
[boards.pi4-01]
kind = "rpi4"
address = "192.0.2.14:7010"
tags = ["rack1"]

[boards.pi4-01.supply]
kind = "command"
```
The keys of its wire are in wires.py, those of its supply in host/supply. What may stand for several
boards is in selectors.py.
Built in: `local`, this machine, and `sim:rpi4[-2][?seed=1&clock_mhz=1500&fault=hang]`; `-2` is the
second of a simulated rack. Both start the real agent in this process, on a free loopback port.
So does `replay:FILE[#BOARD]`, a recording of a board. `record:FILE@BOARD` is any board, and what it
answers is kept in a file; `record = "FILE"` in an entry does the same.
"""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from device_agent.local import local_machine
from device_agent.measure import Machine
from device_agent.server import ServerOptions, make_server
from hil_lab.recordings import RECORD, REPLAY, recorded, recording, tape_of
from hil_lab.selectors import is_filter, matching
from hil_lab.simboard.board import KIND, sim_machine
from hil_lab.simboard.emulator import emulated_numbers
from hil_lab.simboard.faults import interceptors
from hil_lab.simboard.names import is_simulated, sim_settings
from hil_lab.simboard.recording import replay_of
from hil_lab.simboard.replay import replay_machine
from hil_lab.simboard.replay_wire import recorded_failures
from hil_lab.wires import OWN_FILES, OWN_FOLDER, WIRE_KEYS, named, path_of, tls_files
from host.boards.client import BoardClient
from host.boards.pool import Pool
from host.boards.session import CALL_DEADLINE_S
from host.boards.tape import Tape
from host.boards.tls import TlsFiles
from host.errors import CallerError, RecipeError
from host.registry import did_you_mean
from host.supply import Supply, supply_from

LOCAL = "local"
# The kind of machines under an emulator, which stand in for a board's function alone.
EMULATED = "emulated"
STOP_GRACE_S = 0.5
DEFAULT_INVENTORY = Path("boards.toml")


@dataclass(frozen=True, slots=True)
class BoardEntry:
    """One board of the inventory; without `tls` its wire is plain text.

    `record` is a file that keeps what it answers.
    """

    name: str
    kind: str
    address: str
    tags: tuple[str, ...] = ()
    tls: TlsFiles | None = None
    supply: Supply | None = None
    record: str = ""

    def client(self, deadline_s: float = CALL_DEADLINE_S) -> BoardClient:
        """Return a client of the board; raises CallerError where our certificate is not there."""
        tape = tape_of(self.record, self.name)
        if self.tls is None:
            return BoardClient(self.address, deadline_s=deadline_s, tape=tape)
        server_name = named(self.name, self.address)
        try:
            return BoardClient(
                self.address,
                deadline_s=deadline_s,
                tls=self.tls,
                server_name=server_name,
                tape=tape,
            )
        except CallerError as e:
            raise CallerError(
                f"{self.name}: {e}, or say insecure = true on a network that you trust"
            ) from e


def read_inventory(path: Path) -> dict[str, BoardEntry]:
    """Read an inventory; raises RecipeError that names the wrong key."""
    try:
        tables = tomllib.loads(path.read_text())
    except FileNotFoundError as e:
        raise RecipeError(f"{path}: no such inventory") from e
    except tomllib.TOMLDecodeError as e:
        raise RecipeError(f"{path}: {e}") from e
    _refuse_unknown(tables, {"boards"}, str(path))
    boards = tables.get("boards", {})
    return {
        name: _entry(name, table, f"{path}: boards.{name}", path.parent)
        for name, table in boards.items()
    }


def add_entry(path: Path, name: str, kind: str, address: str) -> bool:
    """Add a board that is reached by TLS, unless one of that name is listed; say whether it was."""
    if path.is_file() and name in read_inventory(path):
        return False
    text = path.read_text() if path.is_file() else ""
    values = {"kind": kind, "address": address}
    values |= {key: str(OWN_FOLDER / file) for key, file in OWN_FILES.items()}
    lines = [f"[boards.{json.dumps(name)}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items())]
    path.write_text(text + ("\n" if text else "") + "\n".join(lines) + "\n")
    return True


def select(inventory: Mapping[str, BoardEntry], selector: str) -> list[BoardEntry]:
    """Return the boards of a name or of a filter, `tag=rack1&kind=rpi4`; none is an error."""
    return matching(inventory, selector, (LOCAL, KIND))


def board_names(
    selectors: Sequence[str], inventory: Mapping[str, BoardEntry] | None = None
) -> tuple[str, ...]:
    """Return the boards of names and selectors, in order; opens none.

    Filters may overlap. Raises CallerError for what names no board and for a board that is named
    twice.
    """
    listed = default_inventory() if inventory is None else inventory
    names: dict[str, bool] = {}  # name -> whether a filter found it
    for selector in selectors:
        for name in _names(selector, listed):
            if not names.get(name, True) or (name in names and not is_filter(selector)):
                raise CallerError(f'"{name}" is named twice')
            names[name] = is_filter(selector)
    return tuple(names)


def supply_of(name: str) -> Supply | None:
    """Return the switch of a board's power, None where it has none or is built in."""
    entry = default_inventory().get(recorded(name)[1])
    return entry.supply if entry else None


def _names(selector: str, inventory: Mapping[str, BoardEntry]) -> list[str]:
    file, board = recorded(selector)
    if file:
        return recording(_names(board, inventory), file)
    if is_simulated(selector):
        sim_settings(selector)  # raises CallerError for options that it does not know
        return [selector]
    if selector.startswith(REPLAY):
        replay_of(selector.removeprefix(REPLAY))  # raises CallerError for what is no recording
        return [selector]
    if selector == LOCAL:
        return [selector]
    return [entry.name for entry in select(inventory, selector)]


@contextmanager
def open_board(
    name: str,
    inventory: Mapping[str, BoardEntry] | None = None,
    *,
    deadline_s: float = CALL_DEADLINE_S,
) -> Iterator[BoardClient]:
    """Yield the client of a board by name; built-in ones are started and stopped here.

    `deadline_s` bounds every short call to one that is not built in.
    """
    file, name = recorded(name)
    if machine := _built_in(name):
        with served(machine, _fault(name), tape=tape_of(file, name)) as client:
            yield client
        return
    entries = select(inventory or default_inventory(), name)
    if len(entries) > 1:
        raise CallerError(f'"{name}" is {len(entries)} boards, name one or use a pool')
    entry = replace(entries[0], record=file) if file else entries[0]
    with entry.client(deadline_s) as client:
        yield client


@contextmanager
def open_pool(
    selector: str, holder: str, inventory: Mapping[str, BoardEntry] | None = None
) -> Iterator[Pool]:
    """Yield a pool of the boards that a selector names; built-in boards are pools of one."""
    with ExitStack() as stack:
        if selector == LOCAL or is_simulated(selector) or selector.startswith((REPLAY, RECORD)):
            clients = {selector: stack.enter_context(open_board(selector))}
        else:
            entries = select(inventory or default_inventory(), selector)
            clients = {e.name: stack.enter_context(e.client()) for e in entries}
        yield Pool(clients, holder)


@contextmanager
def served(
    machine: Machine,
    fault: str | None = None,
    state_dir: Path | None = None,
    tape: Tape | None = None,
) -> Iterator[BoardClient]:
    """Yield a client of a machine that the real agent serves on loopback in this process."""
    with tempfile.TemporaryDirectory(prefix="hil-board-") as scratch:
        wire = (*interceptors(fault), *recorded_failures(machine))
        options = ServerOptions(interceptors=wire)
        server, port = make_server(machine, state_dir or Path(scratch), options)
        server.start()
        try:
            with BoardClient(f"127.0.0.1:{port}", tape=tape) as client:
                yield client
        finally:
            server.stop(STOP_GRACE_S).wait()


def default_inventory() -> dict[str, BoardEntry]:
    """Return the boards of the working directory's inventory; none where there is none."""
    return read_inventory(DEFAULT_INVENTORY) if DEFAULT_INVENTORY.exists() else {}


def is_built_in(name: str) -> bool:
    """Whether a board is one that needs no inventory: this machine, a simulated or a replayed."""
    return name == LOCAL or name.startswith((KIND, REPLAY))


def _built_in(name: str) -> Machine | None:
    if name == LOCAL:
        return local_machine(LOCAL)
    if name.startswith(REPLAY):
        return replay_machine(name, replay_of(name.removeprefix(REPLAY)))
    return simulated(name) if is_simulated(name) else None


def simulated(name: str, called: str = "") -> Machine:
    """Return a simulated board by what it is, such as `sim:rpi4-2?seed=1`, under any name."""
    return sim_machine(called or name, sim_settings(name), emulated_numbers())


def _fault(name: str) -> str | None:
    return sim_settings(name).fault if name.startswith(KIND) else None


def _entry(name: str, table: Any, where: str, folder: Path) -> BoardEntry:
    if not isinstance(table, dict):
        raise RecipeError(f"{where}: must be a table with kind and address")
    _refuse_unknown(table, {"kind", "address", "tags", "supply", "record", *WIRE_KEYS}, where)
    for key in ("kind", "address"):
        if not isinstance(table.get(key), str):
            raise RecipeError(f"{where}.{key}: must be given, as a string")
    tls, tags = tls_files(table, where, folder), table.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise RecipeError(f"{where}.tags: must be a list of strings")
    switch = table.get("supply")
    if switch is not None and not isinstance(switch, dict):
        raise RecipeError(f"{where}.supply: must be a table with its kind")
    supply = None if switch is None else supply_from(switch, f"{where}.supply")
    record = str(path_of(table, "record", where, folder)) if "record" in table else ""
    return BoardEntry(name, table["kind"], table["address"], tuple(tags), tls, supply, record)


def _refuse_unknown(table: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise RecipeError(f'{where}: unknown key "{key}"{did_you_mean(key, known)}')
