"""Boards that faults strike: what can be done to one, and boards that are agents' processes."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from hil_lab.bench.faults.child import agent
from hil_lab.bench.faults.link import LOOPBACK
from hil_lab.bench.faults.shim import Shim, lose_unsynced
from hil_lab.emulated import free_port
from host.errors import WorldError

POLL_S, PATIENCE_S = 0.01, 600.0
FULL_BYTES = 512
Make = Callable[[], "Board"]


@dataclass(frozen=True)
class Setting:
    """What all trials share: where processes are forked, the trained network, the preload.

    `made` are boards that are no agent's process, by their kind.
    """

    network: Path
    shim: Shim
    fork: Any = field(default_factory=lambda: multiprocessing.get_context("forkserver"))
    made: Mapping[str, Make] = field(default_factory=dict)

    def start(self, target: Callable[..., None], *arguments: object) -> BaseProcess:
        """Start a process that ends with this one."""
        process: BaseProcess = self.fork.Process(target=target, args=arguments, daemon=True)
        process.start()
        return process

    def board(self, kind: str, folder: Path, corrupt: int = 0) -> Board:
        """Return a board of a kind, not yet started."""
        if kind in self.made:
            return self.made[kind]()
        return AgentBoard(self, kind, folder, corrupt)


class Board(Protocol):
    """What faults do to a board; `wire` is what an inventory says of its TLS, if it has any."""

    kind: str
    port: int
    wire: Mapping[str, Path]

    def start(self) -> None:
        """Power on; returns when the agent listens."""

    def kill(self) -> None:
        """End the agent as the kernel does."""

    def power_cut(self) -> list[str]:
        """Power off; return what was lost of the disk, as far as that is known."""

    def reset(self) -> None:
        """Start anew at once; returns when the agent listens."""

    def freeze(self) -> None:
        """Stop everything where it is."""

    def thaw(self) -> None:
        """Go on."""

    def fill_disk(self) -> None:
        """Leave no room on the disk."""

    def free_disk(self) -> None:
        """Make room again."""

    def rot(self) -> None:
        """Flip a bit of every blob that is kept."""

    def jump(self, seconds: int) -> None:
        """Set the wall clock forward, or back."""

    def close(self) -> None:
        """Take the board away."""


@dataclass
class AgentBoard:
    """A board that is an agent's process; its state folder outlives it."""

    setting: Setting
    kind: str
    folder: Path
    corrupt: int = 0
    port: int = field(default_factory=free_port)
    wire: Mapping[str, Path] = field(default_factory=dict)
    process: BaseProcess | None = None

    def start(self) -> None:
        """Power on; returns when the agent listens."""
        state, synced = str(self._state), str(self.folder / "synced")
        arguments = (self.kind, self.port, state, synced, self.corrupt)
        self.process = self.setting.start(agent, *arguments)
        wait_until(lambda: _listens(self.port), "the agent to listen")

    def kill(self) -> None:
        """End the agent as the kernel does."""
        end(self.process)

    def power_cut(self) -> list[str]:
        """End the agent and lose what it did not sync; return the files that are empty now."""
        self.kill()
        return lose_unsynced(self._state, self.folder / "synced")

    def reset(self) -> None:
        """End the agent and start it again."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stop the agent where it is."""
        os.kill(pid_of(self.process), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the agent go on."""
        os.kill(pid_of(self.process), signal.SIGCONT)

    def fill_disk(self) -> None:
        """Let no file of the agent grow any more."""
        limit_files(pid_of(self.process), FULL_BYTES)

    def free_disk(self) -> None:
        """Let files grow again."""
        limit_files(pid_of(self.process), resource.RLIM_INFINITY)

    def rot(self) -> None:
        """Flip a bit of every blob that is kept."""
        for blob in (self._state / "blobs").iterdir():
            blob.chmod(0o600)
            data = bytearray(blob.read_bytes())
            data[len(data) // 2] ^= 1
            blob.write_bytes(bytes(data))

    def jump(self, seconds: int) -> None:
        """Set the agent's wall clock forward, or back."""
        self.setting.shim.jump(pid_of(self.process), seconds)

    def close(self) -> None:
        """End the agent."""
        end(self.process)

    @property
    def _state(self) -> Path:
        return self.folder / "state"


def wait_until(true: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for something that happens; raises WorldError where it does not."""
    deadline_s = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > deadline_s:
            raise WorldError(f"waited {patience_s:g} s for {what}")
        time.sleep(POLL_S)


def limit_files(pid: int, size_bytes: int) -> None:
    """Let no file of a process grow beyond a size; the hard limit stays, so it can be undone."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


def pid_of(process: BaseProcess | None) -> int:
    """Return the id of a process that was started."""
    assert process is not None and process.pid is not None
    return process.pid


def end(process: BaseProcess | None) -> None:
    """Kill a process, if it was started, and wait until it is gone."""
    if process is not None:
        process.kill()
        process.join()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0
