"""The network of the faults: it carries, slows, stalls, resets, forgets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from hil_lab.bench.faults.link import LOOPBACK, Link


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets, one connection at a time."""
    server = socket.create_server((LOOPBACK, 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(4096):
                    connection.sendall(data)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.close()


@pytest.fixture
def link(echo: int) -> Iterator[Link]:
    link = Link(echo)
    yield link
    link.close()


def connected(link: Link, timeout_s: float = 5.0) -> socket.socket:
    return socket.create_connection((LOOPBACK, link.port), timeout_s)


def told(host: socket.socket, data: bytes) -> bytes:
    host.sendall(data)
    return host.recv(4096)


def test_it_carries_bytes_both_ways_and_counts_them(link: Link) -> None:
    with connected(link) as host:
        assert told(host, b"hello") == b"hello"
    assert link.sent_bytes == 5


def test_a_link_that_was_down_delivers_what_was_sent_meanwhile(link: Link) -> None:
    with connected(link) as host:
        told(host, b"before")
        link.down()
        host.sendall(b"after")
        host.settimeout(0.2)
        with pytest.raises(TimeoutError):
            host.recv(4096)
        link.up()
        host.settimeout(5)
        assert host.recv(4096) == b"after"


def test_a_slow_link_takes_its_time(link: Link) -> None:
    link.delay_s, link.bytes_per_s = 0.05, 1000.0
    with connected(link) as host:
        start_s = time.monotonic()
        assert told(host, bytes(100)) == bytes(100)
        assert time.monotonic() - start_s >= 2 * (0.05 + 0.1)


def test_a_cut_resets_and_a_new_connection_works(link: Link) -> None:
    with connected(link) as host:
        told(host, b"x")
        link.cut()
        with pytest.raises(OSError):
            told(host, b"y")
            told(host, b"z")
    with connected(link) as host:
        assert told(host, b"again") == b"again"


def test_a_forgotten_connection_is_never_answered_nor_closed(link: Link) -> None:
    with connected(link) as host, connected(link) as other:
        told(host, b"x")
        told(other, b"x")
        link.forget()
        host.settimeout(0.3)
        with pytest.raises(TimeoutError):
            told(host, b"y")
    with connected(link) as host:
        assert told(host, b"new") == b"new"
