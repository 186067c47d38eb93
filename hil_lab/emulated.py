"""A real Debian arm64 machine under QEMU that stands in for a board's function, never its time.

`.ci/arm64-image FOLDER` makes its image; its disk is an overlay in a folder that is thrown away.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from firmware_setup.ssh import Login, SshRemote
from host.errors import BoardError, BoardUnreachable, BuildError
from host.lower.objects import default_cache

QEMU, IMAGER = "qemu-system-aarch64", "qemu-img"
DISK, KERNEL, INITRD, KEY, HOST_KEY = FILES = (
    "disk.qcow2", "vmlinuz", "initrd.img", "ssh_key", "host_key.pub",
)  # fmt: skip
# No machine outlives us, even where we are killed.
ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
LOOPBACK, USER = "127.0.0.1", "pi"
AGENT_PORT, SSH_PORT = 7010, 22
BOOT_S, GREETING_S, POLL_S, QMP_S = 400.0, 10.0, 1.0, 10.0


def default_image() -> Path:
    """Return where `make emulated-board` keeps its image."""
    return default_cache() / "arm64-image"


def lacking(image: Path) -> str:
    """Return why no machine can be started from an image, in a sentence; '' where one can."""
    for name in FILES:
        if not (image / name).is_file():
            return f"{image} has no {name}: .ci/arm64-image {image} makes it"
    for program in (QEMU, IMAGER):
        if not shutil.which(program):
            return f"{program} is not installed: .ci/arm64-image {image} installs it"
    return ""


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass
class Machine:
    """A machine whose overlay, keys and sockets lie in `scratch`.

    What the guest has synced outlives a power cut; what it still held in memory does not.
    """

    image: Path
    scratch: Path
    ssh_port: int = field(default_factory=free_port)
    agent_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def key(self) -> Path:
        """The private key of the user `pi`."""
        path = self.scratch / KEY
        if not path.exists():
            path.write_bytes((self.image / KEY).read_bytes())
            path.chmod(0o600)
        return path

    @property
    def fingerprint(self) -> str:
        """The host key's, as ssh-keygen -l prints it."""
        blob = base64.b64decode((self.image / HOST_KEY).read_text().split()[1])
        return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")

    @property
    def command(self) -> list[str]:
        """What starts it; the network reaches it through two ports of loopback alone."""
        forward = (
            f"user,id=n,hostfwd=tcp:{LOOPBACK}:{self.ssh_port}-:{SSH_PORT},"
            f"hostfwd=tcp:{LOOPBACK}:{self.agent_port}-:{AGENT_PORT}"
        )
        command = [
            QEMU, "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "2048",
            "-kernel", self.image / KERNEL, "-initrd", self.image / INITRD,
            "-append", "root=/dev/vda rw console=ttyAMA0 quiet",
            "-drive", f"file={self._overlay},if=virtio", "-netdev", forward,
            "-device", "virtio-net-pci,netdev=n,romfile=",
            "-qmp", f"unix:{self._qmp},server=on,wait=off",
            "-display", "none", "-serial", f"file:{self._console}",
        ]  # fmt: skip
        return [str(part) for part in command]

    @property
    def runs(self) -> bool:
        """Whether it has power."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Power on."""
        if not self._overlay.exists():
            base = ["-b", str(self.image / DISK), "-F", "qcow2"]
            made = [IMAGER, "create", "-q", "-f", "qcow2", *base, str(self._overlay)]
            done = subprocess.run(made, capture_output=True, text=True)
            if done.returncode:
                raise BuildError(f"{self._overlay}: {done.stderr.strip()}")
        self.process = subprocess.Popen([*ENDS_WITH_US, *self.command])

    def power_cut(self) -> None:
        """Take the power away."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """Stop it where it is."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def reset(self) -> None:
        """Press the reset button; returns at once."""
        with socket.socket(socket.AF_UNIX) as plain, plain.makefile("rw") as wire:
            plain.settimeout(QMP_S)
            plain.connect(str(self._qmp))
            wire.readline()  # the greeting
            for name in ("qmp_capabilities", "system_reset"):
                wire.write(json.dumps({"execute": name}) + "\n")
                wire.flush()
                wire.readline()

    def wait_for_ssh(self) -> None:
        """Wait until sshd greets; raises BoardUnreachable with the end of the console."""
        deadline = time.monotonic() + BOOT_S
        while not self._greets():
            if time.monotonic() > deadline or not self.runs:
                console = self._console.read_text(errors="replace")
                raise BoardUnreachable(f"no sshd after {BOOT_S:g} s: {console[-500:]}")
            time.sleep(POLL_S)

    def remote(self) -> SshRemote:
        """Return a connection as root, to be entered; its host key is given, not taken on trust."""
        login = Login(USER, LOOPBACK, self.ssh_port, self.key, self.fingerprint)
        return SshRemote(login, self.scratch / "known_hosts")

    def ssh(self, command: str) -> str:
        """Run a command as root over a connection of its own; raises BoardError."""
        with self.remote() as remote:
            return said(remote, command)

    @property
    def _overlay(self) -> Path:
        return self.scratch / DISK

    @property
    def _qmp(self) -> Path:
        return self.scratch / "qmp"

    @property
    def _console(self) -> Path:
        return self.scratch / "console"

    def _signal(self, number: signal.Signals) -> None:
        if self.process:
            self.process.send_signal(number)

    def _greets(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.ssh_port), GREETING_S) as wire:
                wire.settimeout(GREETING_S)
                return wire.recv(4).startswith(b"SSH")
        except OSError:
            return False


def said(remote: SshRemote, command: str) -> str:
    """Run a command as root and return its output; raises BoardError where it fails."""
    done = remote.run(command, b"")
    if done.status:
        raise BoardError(f"{remote.where}: {command[:80]}: {done.err.strip() or done.status}")
    return done.out.decode(errors="replace")


@contextmanager
def machine(image: Path, scratch: Path) -> Iterator[Machine]:
    """Yield a machine that answers SSH; its power is cut at the end."""
    made = Machine(image, scratch)
    made.start()
    try:
        made.wait_for_ssh()
        yield made
    finally:
        made.power_cut()
