"""A real Debian arm64 machine under QEMU that stands in for a board's function, never its time."""

from __future__ import annotations

import base64
import hashlib
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

BOOT_S = 400.0
AGENT_PORT, SSH_PORT = 7010, 22


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Machine:
    """A running machine; its disk is an overlay that is thrown away."""

    image: Path
    scratch: Path
    ssh_port: int = field(default_factory=free_port)
    agent_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def key(self) -> Path:
        """The private key of the user `pi`."""
        path = self.scratch / "ssh_key"
        if not path.exists():
            path.write_bytes((self.image / "ssh_key").read_bytes())
            path.chmod(0o600)
        return path

    @property
    def fingerprint(self) -> str:
        """The host key's, as ssh-keygen -l prints it."""
        blob = base64.b64decode((self.image / "host_key.pub").read_text().split()[1])
        return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")

    def start(self) -> None:
        """Power on."""
        overlay = self.scratch / "disk.qcow2"
        if not overlay.exists():
            base = ["-b", str(self.image / "disk.qcow2"), "-F", "qcow2"]
            subprocess.run(
                ["qemu-img", "create", "-q", "-f", "qcow2", *base, str(overlay)], check=True
            )
        forward = (
            f"user,id=n,hostfwd=tcp:127.0.0.1:{self.ssh_port}-:{SSH_PORT},"
            f"hostfwd=tcp:127.0.0.1:{self.agent_port}-:{AGENT_PORT}"
        )
        command = [
            "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "2048",
            "-kernel", self.image / "vmlinuz", "-initrd", self.image / "initrd.img",
            "-append", "root=/dev/vda rw console=ttyAMA0 quiet",
            "-drive", f"file={overlay},if=virtio", "-netdev", forward,
            "-device", "virtio-net-pci,netdev=n,romfile=",
            "-qmp", f"unix:{self.scratch / 'qmp'},server=on,wait=off",
            "-display", "none", "-serial", f"file:{self.scratch / 'console'}",
        ]  # fmt: skip
        self.process = subprocess.Popen([str(part) for part in command])

    def power_cut(self) -> None:
        """Take the power away."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def wait_for_ssh(self) -> None:
        """Wait until sshd greets; raises TimeoutError with the end of the console."""
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.ssh_port), 5) as wire:
                    wire.settimeout(10)
                    if wire.recv(4).startswith(b"SSH"):
                        return
            except OSError:
                pass
            time.sleep(1)
        console = (self.scratch / "console").read_text(errors="replace")
        raise TimeoutError(f"no sshd after {BOOT_S:g} s: {console[-500:]}")

    def ssh(self, command: str) -> str:
        """Run a command as root; raises CalledProcessError."""
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                   "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20"]  # fmt: skip
        login = ["-i", str(self.key), "-p", str(self.ssh_port), "pi@127.0.0.1"]
        asked = ["ssh", *options, *login, "sudo -n sh -c " + shlex.quote(command)]
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout


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
