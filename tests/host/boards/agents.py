"""Boards that restart: the real agent over a fake machine, stopped and started on one address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from device_agent.measure import Machine
from device_agent.server import ServerOptions, make_server
from host.boards.client import BoardClient
from tests.contracts.support import FakeRunner, fake_machine


class Restarting:
    """A board whose agent can be killed and booted; its state lies on its disk."""

    def __init__(self, folder: Path, machine: Machine | None = None, name: str = "fake") -> None:
        self._folder = folder
        machine = machine or fake_machine(FakeRunner())
        self.machine = replace(machine, identity=replace(machine.identity, name=name))
        self._server: Any = None
        self.port = 0
        self.boots = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def boot(self) -> None:
        """Start the agent, at the same address as before."""
        options = ServerOptions(f"127.0.0.1:{self.port}")
        self._server, self.port = make_server(self.machine, self._folder, options)
        self._server.start()
        self.boots += 1

    def die(self, grace_s: float | None = None) -> None:
        """End it in the middle of whatever it does."""
        if self._server is not None:
            self._server.stop(grace_s).wait()
        self._server = None


@contextmanager
def restarting(folder: Path, **more: Any) -> Iterator[tuple[Restarting, BoardClient]]:
    """Yield a board that runs, and a client that gives up soon."""
    board = Restarting(folder, **more)
    board.boot()
    try:
        with BoardClient(board.address, deadline_s=2.0) as client:
            yield board, client
    finally:
        board.die()
