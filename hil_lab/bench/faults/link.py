"""A network between host and board that can be slowed, cut, or lost; it carries bytes as they come.

A link that is down keeps what is sent, and tells neither side: a pulled cable, not a closed door.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

CHUNK_BYTES = 4096
POLL_S = 0.02
LOOPBACK = "127.0.0.1"
_RESET = struct.pack("ii", 1, 0)  # close with a reset


@dataclass
class _Connection:
    """Both ends of one connection; once forgotten, nothing passes any more, nor a goodbye."""

    host: socket.socket
    board: socket.socket
    forgotten: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        for end in (self.host, self.board):
            with contextlib.suppress(OSError):
                end.close()

    def reset(self) -> None:
        for end in (self.host, self.board):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)
        self.close()


class Link:
    """Forwards a port of its own to a board's."""

    def __init__(self, board_port: int) -> None:
        self._board_port = board_port
        self._server = socket.create_server((LOOPBACK, 0))
        self.port = int(self._server.getsockname()[1])
        self._up = threading.Event()
        self._up.set()
        self._closed = threading.Event()
        self._connections: list[_Connection] = []
        self.delay_s, self.bytes_per_s = 0.0, 0.0
        self.sent_bytes = 0  # to the board
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def down(self) -> None:
        """Pull the cable."""
        self._up.clear()

    def up(self) -> None:
        """Plug it in again; what was sent meanwhile arrives."""
        self._up.set()

    def cut(self) -> None:
        """Reset all connections, as a router does that restarts."""
        for connection in list(self._connections):
            connection.reset()

    def forget(self) -> None:
        """Never answer on the present connections again: their other end has lost its memory."""
        for connection in list(self._connections):
            connection.forgotten.set()

    def close(self) -> None:
        """Stop forwarding."""
        self._closed.set()
        self._up.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # ends what waits in accept
        self._server.close()
        self._acceptor.join()
        for connection in list(self._connections):
            connection.forgotten.set()
            connection.reset()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                host, _ = self._server.accept()
            except OSError:
                return
            self._up.wait()
            try:
                board = socket.create_connection((LOOPBACK, self._board_port), 5)
            except OSError:
                host.close()  # refused there, refused here
                continue
            board.settimeout(None)
            connection = _Connection(host, board)
            self._connections.append(connection)
            for upward in (True, False):
                arguments = (connection, upward)
                threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, connection: _Connection, upward: bool) -> None:
        ends = (connection.host, connection.board)
        source, sink = ends if upward else ends[::-1]
        while True:
            try:
                data = source.recv(CHUNK_BYTES)
                self._pass(len(data), upward)
                if connection.forgotten.is_set():
                    if not data:
                        return
                    continue
                if not data:
                    connection.close()
                    return
                sink.sendall(data)
            except OSError:
                if not connection.forgotten.is_set():
                    connection.reset()
                return

    def _pass(self, count: int, upward: bool) -> None:
        """Take the time that so many bytes take."""
        if self.delay_s or self.bytes_per_s:
            time.sleep(self.delay_s + (count / self.bytes_per_s if self.bytes_per_s else 0.0))
        while not self._up.wait(POLL_S) and not self._closed.is_set():
            continue
        self.sent_bytes += count if upward else 0
