"""systemd hears that the agent serves, lives and stops, and nothing once it hangs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.notify import answers, notified


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
        wire.bind(str(tmp_path / "notify"))
        wire.settimeout(5)
        yield wire


def test_ready_alive_stopping(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "20000"}
    with notified(lambda: True, environment):
        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == manager.recv(100) == b"WATCHDOG=1"
    said = b""
    while said != b"STOPPING=1":
        said = manager.recv(100)


def test_an_agent_that_hangs_is_not_said_to_live(manager: socket.socket) -> None:
    asked = threading.Event()

    def alive() -> bool:
        asked.set()
        return False

    environment = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "20000"}
    with notified(alive, environment):
        assert manager.recv(100) == b"READY=1"
        assert asked.wait(5)
        manager.settimeout(0.1)
        with pytest.raises(TimeoutError):
            manager.recv(100)


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    asked: list[bool] = []

    def alive() -> bool:
        asked.append(True)
        return True

    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        with notified(alive, environment):
            assert asked == []


def test_an_agent_hears_itself_where_it_listens() -> None:
    with socket.socket() as wire:
        wire.bind(("127.0.0.2", 0))
        wire.listen()
        port = wire.getsockname()[1]
        assert answers("127.0.0.2", port) and not answers("0.0.0.0", port)
