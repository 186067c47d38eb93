"""A board that may be given orders: by SSH, or on this machine for tests; knows no order itself."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from host.errors import BoardError

CHUNK_BYTES = 4 << 20
# An operation and its arguments, as firmware_setup/board/side.py has them.
Order = tuple[str, Mapping[str, Any]]


class ProvisionError(BoardError):
    """The board refused an order, or cannot become a board of ours."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left."""

    status: int
    out: bytes
    err: str


class Remote(Protocol):
    """Runs commands as root; `root` is where the file system of the board begins there."""

    where: str
    root: str

    def run(self, command: str, stdin: bytes) -> Done:
        """Run a shell command; raises BoardUnreachable when the connection is lost."""
        ...


def order(remote: Remote, *orders: Order) -> list[Any]:
    """Have orders carried out, in one go; raises ProvisionError for the first that is refused."""
    source = files("firmware_setup.board").joinpath("side.py").read_text()
    request = json.dumps({"root": remote.root, "do": [[name, dict(a)] for name, a in orders]})
    done = remote.run(f"python3 -c {shlex.quote(source)}", request.encode())
    if done.status:
        said = done.err.strip().rpartition("\n")[2]
        raise ProvisionError(f"{remote.where}: {said or 'python3 did not run'}")
    answers: list[Any] = json.loads(done.out)
    return answers


def upload(remote: Remote, path: str, content: bytes) -> None:
    """Send a file, going on where an earlier attempt was cut off."""
    (have,) = order(remote, ("received", {"path": path}))
    offset = have["bytes"] if _same_start(content, have) else 0
    while offset < len(content):
        part = base64.b64encode(content[offset : offset + CHUNK_BYTES]).decode()
        order(remote, ("append", {"path": path, "offset": offset, "content": part}))
        offset += CHUNK_BYTES


def _same_start(content: bytes, have: Mapping[str, Any]) -> bool:
    return bool(hashlib.sha256(content[: have["bytes"]]).hexdigest() == have["digest"])


@dataclass(frozen=True)
class Here:
    """This machine, its file system beginning in a folder: for tests, and to see what would be."""

    folder: Path
    where: str = "here"

    @property
    def root(self) -> str:
        """The folder."""
        return str(self.folder)

    def run(self, command: str, stdin: bytes) -> Done:
        """Run a command with this Python."""
        argv: Sequence[str] = shlex.split(command)
        if argv[0] == "python3":
            argv = [sys.executable, *argv[1:]]
        done = subprocess.run(argv, input=stdin, capture_output=True)
        return Done(done.returncode, done.stdout, done.stderr.decode(errors="replace"))
