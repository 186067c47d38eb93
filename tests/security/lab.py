"""A lab for tests: an authority, people with every kind of certificate, and boards behind TLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc

from device_agent.server import ServerOptions, make_server
from firmware_setup.ca.certificates import Leaf
from firmware_setup.ca.lab import Issued, LabCA
from host.boards.client import BoardClient
from host.boards.tls import TlsFiles
from tests.contracts.support import fake_machine

BOARD = "pi4-01"


def long_ago() -> datetime:
    return datetime.now(UTC) - timedelta(days=10)


@dataclass(frozen=True)
class Lab:
    """One authority in a folder, and what it issues."""

    folder: Path

    @cached_property
    def ca(self) -> LabCA:
        ca = LabCA(self.folder / "ca")
        ca.init()
        return ca

    def person(self, name: str, role: str = "measure") -> Issued:
        return self.ca.issue(Leaf(name, "person", role))

    def expired(self, leaf: Leaf) -> Issued:
        return LabCA(self.ca.folder, now=long_ago).issue(leaf, days=1)

    @cached_property
    def board(self) -> Issued:
        return self.ca.issue(Leaf(BOARD, "board"))

    @contextmanager
    def served(self, board: Issued | None = None, **options: Any) -> Iterator[str]:
        """Yield the address of a board that asks for certificates and heeds revocation."""
        credentials = server_credentials(board or self.board)
        settings = ServerOptions(credentials=credentials, revoked=self.ca.revoked, **options)
        server, port = make_server(fake_machine(), self.folder / "state", settings)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def server_credentials(board: Issued, authority: bytes = b"") -> grpc.ServerCredentials:
    pair = (board.key.read_bytes(), board.certificate.read_bytes())
    authority = authority or board.authority.read_bytes()
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=True)


def files(issued: Issued, authority: Path | None = None) -> TlsFiles:
    return TlsFiles(authority or issued.authority, issued.certificate, issued.key)


def client(address: str, who: TlsFiles, name: str = BOARD) -> BoardClient:
    return BoardClient(address, tls=who, server_name=name, deadline_s=5)
