"""A board by SSH: host keys are known beforehand or shown to a person, never taken on trust."""

from __future__ import annotations

import base64
import hashlib
import logging
import shlex
import socket
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import paramiko

from firmware_setup.remote import Done, ProvisionError
from host.errors import BoardUnreachable, CallerError

KNOWN_HOSTS = Path("~/.config/hil-lab/known_hosts")
CONNECT_S, ALIVE_S = 20.0, 5
PORT = 22


@dataclass(frozen=True, slots=True)
class Login:
    """user@host[:port]; `fingerprint` is the host key's as ssh-keygen -l prints it, SHA256:..."""

    user: str
    host: str
    port: int = PORT
    key: Path | None = None
    fingerprint: str = ""

    @classmethod
    def parse(cls, text: str, key: Path | None = None, fingerprint: str = "") -> Login:
        """Read `user@host` or `user@host:port`; raises CallerError for anything else."""
        user, at, rest = text.partition("@")
        host, colon, port = rest.partition(":")
        if not (user and at and host) or (colon and not port.isdigit()):
            raise CallerError(f'"{text}" is no login: write user@host or user@host:port')
        return cls(user, host, int(port or PORT), key, fingerprint)

    @property
    def name(self) -> str:
        """How the host is known: with its port where that is not the usual one."""
        return self.host if self.port == PORT else f"[{self.host}]:{self.port}"


class SshRemote:
    """Commands as root over one connection; `sudo -n` where the user is another."""

    root = "/"

    def __init__(self, login: Login, known_hosts: Path = KNOWN_HOSTS) -> None:
        self._login = login
        self._known = known_hosts.expanduser()
        self._client: paramiko.SSHClient | None = None
        self.where = f"{login.user}@{login.name}"

    def __enter__(self) -> SshRemote:
        self._connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._client:
            self._client.close()

    def run(self, command: str, stdin: bytes) -> Done:
        """Run a shell command as root."""
        asked = command if self._login.user == "root" else f"sudo -n sh -c {shlex.quote(command)}"
        try:
            return self._run(asked, stdin)
        except (paramiko.SSHException, OSError, EOFError) as e:
            raise BoardUnreachable(
                f"{self.where}: the connection was lost ({e or type(e).__name__}); the same "
                "command goes on where it was"
            ) from e

    def _run(self, command: str, stdin: bytes) -> Done:
        assert self._client is not None
        channel = self._client.get_transport().open_session()
        channel.exec_command(command)
        channel.sendall(stdin)
        channel.shutdown_write()
        out, err = channel.makefile("rb").read(), channel.makefile_stderr("rb").read()
        status = channel.recv_exit_status()
        said = err.decode(errors="replace")
        if status == 1 and "sudo:" in said and "password" in said:
            raise ProvisionError(
                f"{self.where}: sudo wants a password; let this user use sudo without one "
                "(raspi-config does), or log in as root"
            )
        return Done(status, out, said)

    def _connect(self) -> None:
        login = self._login
        # What goes wrong is raised below, as a sentence; paramiko would log its traceback before.
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)
        client = paramiko.SSHClient()
        if Path("~/.ssh/known_hosts").expanduser().is_file():
            client.load_host_keys(str(Path("~/.ssh/known_hosts").expanduser()))
        if self._known.is_file():
            client.load_system_host_keys(str(self._known))
        client.set_missing_host_key_policy(_Pinned(login, self._known))
        try:
            client.connect(
                login.host,
                login.port,
                login.user,
                key_filename=str(login.key.expanduser()) if login.key else None,
                timeout=CONNECT_S,
                banner_timeout=CONNECT_S * 3,
                auth_timeout=CONNECT_S * 3,
            )
        except paramiko.BadHostKeyException as e:
            raise CallerError(
                f"{self.where}: its host key is another than the known one ({_said(e.key)}); if "
                f"the card was written anew, remove the line of {login.name} from the known hosts"
            ) from e
        except paramiko.AuthenticationException as e:
            raise CallerError(
                f"{self.where}: no key that was tried is accepted; name one with --key, add it to "
                "the SSH agent, or put it on the board with ssh-copy-id"
            ) from e
        except (paramiko.SSHException, OSError, socket.gaierror) as e:
            raise BoardUnreachable(f"{self.where}: {e}") from e
        client.get_transport().set_keepalive(ALIVE_S)
        self._client = client


class _Pinned(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """Takes an unknown host's key only where its fingerprint was given, and keeps it."""

    def __init__(self, login: Login, known: Path) -> None:
        self._login = login
        self._known = known

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        """Accept the key that was expected; raises CallerError with the fingerprint of another."""
        if not self._login.fingerprint:
            raise CallerError(
                f"{self._login.name} is not a known host; it says {_said(key)}. Compare that with "
                "`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the board, then add "
                f"--host-key {_fingerprint(key)}"
            )
        if self._login.fingerprint != _fingerprint(key):
            raise CallerError(
                f"{self._login.name} says {_said(key)}, which is not the host key that was given"
            )
        self._known.parent.mkdir(parents=True, exist_ok=True)
        with self._known.open("a") as file:
            file.write(f"{self._login.name} {key.get_name()} {key.get_base64()}\n")


def _fingerprint(key: paramiko.PKey) -> str:
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _said(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {_fingerprint(key)}"
