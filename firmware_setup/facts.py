"""What a board is before it becomes ours, and why it cannot; changes nothing."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from firmware_setup.bundle import MACHINES
from firmware_setup.remote import ProvisionError, Remote, order

LEAST_PYTHON = (3, 11)
LEAST_FREE_BYTES = 400 << 20
# Newer systems first.
BOOT_CONFIGS = ("/boot/firmware/config.txt", "/boot/config.txt")
_PYTHON = "import sys;print('%d.%d' % sys.version_info[:2])"


@dataclass(frozen=True, slots=True)
class Facts:
    """Machine, Python, system, model ("" where unknown), free bytes, and its firmware's config."""

    arch: str
    python: tuple[int, int]
    system: str
    model: str
    free_bytes: int
    boot_config: str | None

    @property
    def kind(self) -> str:
        """The kind of board that the inventory calls it."""
        return "rpi4" if "Raspberry Pi 4" in self.model else self.arch


def facts_of(remote: Remote) -> Facts:
    """Ask a board what it is; raises ProvisionError where it cannot be a board of ours."""
    answers = order(
        remote,
        ("ask", {"command": ["uname", "-m"]}),
        ("ask", {"command": ["python3", "-c", _PYTHON]}),
        ("ask", {"command": ["systemctl", "--version"]}),
        ("ask", {"command": ["df", "-B1", "--output=avail", remote.root]}),
        ("read", {"path": "/etc/os-release"}),
        ("read", {"path": "/proc/device-tree/model"}),
        ("state", {"paths": list(BOOT_CONFIGS)}),
    )
    machine, python, systemd, free, release, model, configs = answers
    major, _, minor = python["said"].partition(".")
    found = Facts(
        machine["said"],
        (int(major), int(minor)),
        _named(_text(release)),
        _text(model).strip("\0\n"),
        int(free["said"].split()[-1]),
        next((path for path in BOOT_CONFIGS if configs[path]), None),
    )
    if why := _unfit(found, systemd):
        raise ProvisionError(f"{remote.where}: {why}")
    return found


def _unfit(facts: Facts, systemd: dict[str, Any]) -> str:
    if facts.arch not in MACHINES:
        return f"its system is for {facts.arch}; write a 64-bit one to the card (aarch64)"
    if facts.python < LEAST_PYTHON:
        have = ".".join(map(str, facts.python))
        return f"it has Python {have} and the agent needs 3.11: use Debian 12 or newer"
    if systemd["status"]:
        return "it has no systemd, which the agent's unit needs"
    if facts.free_bytes < LEAST_FREE_BYTES:
        return f"{facts.free_bytes >> 20} MiB are free and {LEAST_FREE_BYTES >> 20} are needed"
    return ""


def _text(content: str | None) -> str:
    return base64.b64decode(content).decode(errors="replace") if content else ""


def _named(release: str) -> str:
    pairs = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    return pairs.get("PRETTY_NAME", "").strip('"')
