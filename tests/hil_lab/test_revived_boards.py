"""A board is killed while a dataset is collected: it comes back, nothing is lost or twice there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil_lab.dataset import open_dataset
from host.boards.client import BoardClient
from host.errors import BoardUnreachable
from tests.hil_lab import tiny
from tests.hil_lab.commands import hil_lab

pytestmark = [pytest.mark.tvm, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
COUNT = 12
RECIPE = """
protocol = "quick"
board = ["tag=rack1"]
[kernels]
kinds = ["dense"]
formats = ["fp32", "int8"]
channels = [8, 64]
size = [1, 16]
"""
# A board's power: its process, by the file that holds its id.
SWITCH = """
import contextlib, os, signal, subprocess, sys
name, port, action = sys.argv[1:]
pid = f"{name}.pid"
if action == "off" and os.path.exists(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(open(pid).read()), signal.SIGKILL)
    os.remove(pid)
if action == "on":
    command = [sys.executable, "-m", "hil_lab.cli", "simboard", "sim:rpi4?pace=1", "--name", name]
    command += ["--bind", f"127.0.0.1:{port}", "--state", f"{name}.state"]
    with open(f"{name}.log", "a") as log:
        board = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    open(pid, "w").write(str(board.pid))
"""


class Rack:
    """Two boards whose power is their processes'."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: _free_port() for name in ("sim-01", "sim-02")}

    def command(self, name: str, action: str) -> list[str]:
        return [sys.executable, "switch.py", name, str(self.ports[name]), action]

    def switch(self, name: str, action: str) -> None:
        subprocess.run(self.command(name, action), check=True, cwd=self.folder)

    def kill(self, name: str) -> None:
        """Let a board die as by a broken supply: nobody tells anybody."""
        os.kill(int((self.folder / f"{name}.pid").read_text()), signal.SIGKILL)

    def inventory(self, *, supply: bool) -> None:
        """List the boards, with their switches or without."""
        lines = []
        for name, port in self.ports.items():
            lines += [f"[boards.{name}]", 'kind = "sim:rpi4"', f'address = "127.0.0.1:{port}"']
            lines += ['tags = ["rack1"]']
            if supply:
                switches = {a: " ".join(self.command(name, a)) for a in ("on", "off")}
                lines += [f"[boards.{name}.supply]", 'kind = "command"']
                lines += [f'{action} = "{text}"' for action, text in switches.items()]
        (self.folder / "boards.toml").write_text("\n".join(lines))

    def client(self, name: str) -> BoardClient:
        return BoardClient(f"127.0.0.1:{self.ports[name]}", deadline_s=2.0)

    def answers(self, name: str, state: str = "") -> None:
        """Wait until a board answers, and until it is in a state."""
        until = time.monotonic() + 60
        with self.client(name) as client:
            while time.monotonic() < until:
                try:
                    if state in ("", client.describe().state):
                        return
                except BoardUnreachable:
                    time.sleep(0.2)
                time.sleep(0.02)
        raise AssertionError(f"{name} is not {state or 'there'}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def rack(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rack]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name, value in tiny.environment(tmp_path_factory).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "switch.py").write_text(SWITCH)
    (tmp_path / "small.toml").write_text(f"count = {COUNT}\n{RECIPE}")
    found = Rack(tmp_path)
    try:
        for name in found.ports:
            found.switch(name, "on")
        for name in found.ports:
            found.answers(name)
        yield found
    finally:
        for name in found.ports:
            found.switch(name, "off")


@pytest.mark.parametrize("supply", [True, False], ids=["power cycled", "restarted by itself"])
def test_a_board_that_dies_in_a_measurement_comes_back_and_goes_on(
    rack: Rack, supply: bool
) -> None:
    rack.inventory(supply=supply)

    def accident() -> None:
        rack.answers("sim-02", "measuring")
        rack.kill("sim-02")
        if not supply:
            time.sleep(3.0)
            rack.switch("sim-02", "on")

    happens = threading.Thread(target=accident, daemon=True)
    happens.start()
    done = hil_lab("dataset", "collect", "small.toml")
    happens.join(60)
    assert done.status == 0, done.err
    assert "dropped" not in done.err
    assert ("switching it off and on" in done.err) == supply
    assert "back     sim-02 answers again, under lease 2" in done.err
    rows = open_dataset("small").table().rows
    assert sorted(row["number"] for row in rows) == list(range(COUNT))
    assert {(row["board"], row["number"] % 2) for row in rows} == {("sim-01", 0), ("sim-02", 1)}
    assert {row["verdict"] for row in rows} == {"trusted"}
