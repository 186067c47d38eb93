"""What a board is to be: files, folders, user, units; and what of it differs from what is there."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firmware_setup import units
from firmware_setup.bundle import Bundle
from firmware_setup.facts import Facts
from firmware_setup.remote import Order

ROOT = "root:root"
RELEASES, INCOMING = "/opt/hil-lab/releases", "/opt/hil-lab/incoming"


@dataclass(frozen=True, slots=True)
class File:
    """A file with all that matters of it; `owner` is user:group."""

    path: str
    content: bytes
    mode: str = "0644"
    owner: str = ROOT

    @property
    def digest(self) -> str:
        """sha256 of the content."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the agent shows and trusts, as PEM, and the fingerprints that it refuses."""

    certificate: bytes
    key: bytes
    authority: bytes
    revoked: bytes


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person chooses: name, kind ("" for what it is), address, meters, boot tuning.

    Without `aslr` programs have the same addresses in every run.
    """

    name: str
    kind: str = ""
    bind: str = "0.0.0.0:7010"
    meters: tuple[str, ...] = ()
    tune: bool = True
    aslr: bool = True


@dataclass(frozen=True)
class Wanted:
    """The whole of a provisioned board."""

    files: tuple[File, ...]
    release: str
    units: tuple[str, ...]

    def differences(self, state: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield what differs: a path, and how."""
        for file in self.files:
            if why := _differs(file, state[file.path]):
                yield file.path, why
        if state[self.release] is None:
            yield self.release, "missing"
        link = state[units.CURRENT]
        if link != {"link": self.target}:
            yield units.CURRENT, "missing" if link is None else "points elsewhere"

    @property
    def target(self) -> str:
        """What the link to the current release says, from where it lies."""
        return f"releases/{self.release.rpartition('/')[2]}"

    @property
    def paths(self) -> list[str]:
        """Everything whose state says whether the board is as it should be."""
        return [*(file.path for file in self.files), self.release, units.CURRENT]


def wanted(
    choices: Choices, facts: Facts, bundle: Bundle, credentials: Credentials | None, boot: str
) -> Wanted:
    """Return what a board is to be; `boot` is its config.txt as it is.

    Without credentials those that the board has stay.
    """
    kind = choices.kind or facts.kind
    config = units.CONFIG
    files = [
        File(units.SYSCTL, units.sysctl().encode()),
        File(f"{config}/tune.sh", units.tune_script(choices.meters).encode()),
        File(f"/etc/systemd/system/{units.TUNE_UNIT}", units.tune_unit().encode()),
        File(
            f"/etc/systemd/system/{units.AGENT_UNIT}",
            units.agent_unit(choices.name, kind, choices.bind, aslr=choices.aslr).encode(),
        ),
        *(_credential_files(credentials) if credentials else ()),
    ]
    if facts.boot_config:
        files.append(File(facts.boot_config, units.boot_block(boot).encode(), mode="0755"))
    enabled = [units.AGENT_UNIT, *([units.TUNE_UNIT] if choices.tune else [])]
    return Wanted(tuple(files), f"{RELEASES}/{bundle.digest[:16]}", tuple(enabled))


def _credential_files(credentials: Credentials) -> Sequence[File]:
    config, group = units.CONFIG, f"root:{units.USER}"
    return (
        File(f"{config}/ca.crt", credentials.authority),
        File(f"{config}/agent.crt", credentials.certificate),
        File(f"{config}/agent.key", credentials.key, "0640", group),
        File(f"{config}/revoked.txt", credentials.revoked, "0644", ROOT),
    )


def put(file: File) -> Order:
    """Return the order that writes a file."""
    content = base64.b64encode(file.content).decode()
    return ("put", {"path": file.path, "content": content, "mode": file.mode, "owner": file.owner})


def _differs(file: File, there: Mapping[str, Any] | None) -> str:
    if there is None:
        return "missing"
    if there.get("digest") != file.digest:
        return "differs"
    # The firmware's own partition knows neither modes nor owners.
    if file.path.startswith("/boot"):
        return ""
    if there["mode"] != file.mode:
        return f"has mode {there['mode']}, not {file.mode}"
    return "" if there["owner"] == file.owner else f"belongs to {there['owner']}"
