"""Simulated boards as processes of this machine, as `hil-lab simboard` serves them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from host.errors import BoardUnreachable

STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class SimProcess:
    """A board that runs: its name, where it listens, and its process."""

    name: str
    address: str
    process: subprocess.Popen[str]


@contextmanager
def sim_process(
    board: str, name: str, state: Path, bind: str = "127.0.0.1:0"
) -> Iterator[SimProcess]:
    """Yield a simulated board in its own process; raises BoardUnreachable where none starts.

    `board` says what it is, such as `sim:rpi4-2?pace=1`.
    """
    command = [sys.executable, "-m", "hil_lab.cli", "simboard", board, "--name", name]
    command += ["--bind", bind, "--state", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            yield SimProcess(name, _address(process.stdout, name), process)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(output: IO[str] | None, name: str) -> str:
    """Return where a board says that it listens, in its first line."""
    line = output.readline() if output else ""
    _, found, address = line.strip().rpartition(" listens on ")
    if not found:
        raise BoardUnreachable(f"{name}: its process did not start to serve")
    return address
