"""cloud-init user-data for a fresh card, whose host key is known before it boots."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from firmware_setup.ssh import KNOWN_HOSTS
from host.errors import CallerError

HEADER = "#cloud-config\n"


@dataclass(frozen=True, slots=True)
class HostKey:
    """An SSH host key as OpenSSH writes it: private, and public."""

    private: str
    public: str

    @classmethod
    def new(cls) -> HostKey:
        """Make a key of type ed25519."""
        key = ed25519.Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        return cls(private.decode(), public.decode())


def user_data(name: str, user: str, login_key: Path, host_key: HostKey) -> str:
    """Return user-data: this name, this user with a key and without a password, this host key.

    It is JSON, which is YAML. Raises CallerError where there is no public key to log in with.
    """
    try:
        key = login_key.expanduser().read_text().strip()
    except OSError as e:
        raise CallerError(
            f"{login_key}: {e.strerror}; name a public key with --key, or make one: ssh-keygen"
        ) from e
    if not key.startswith(("ssh-", "ecdsa-", "sk-")):
        raise CallerError(f"{login_key} is no public SSH key; it ends in .pub")
    person = {
        "name": user,
        "groups": "sudo,video,i2c,gpio",
        "shell": "/bin/bash",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "lock_passwd": True,
        "ssh_authorized_keys": [key],
    }
    data = {
        "hostname": name,
        "manage_etc_hosts": True,
        "users": [person],
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_genkeytypes": [],
        "ssh_keys": {"ed25519_private": host_key.private, "ed25519_public": host_key.public},
        "package_update": False,
        "runcmd": [["systemctl", "enable", "--now", "ssh"]],
    }
    return HEADER + json.dumps(data, indent=1) + "\n"


def remember(name: str, host_key: HostKey, known_hosts: Path = KNOWN_HOSTS) -> None:
    """Make the host known, so that the first connection is not taken on trust."""
    path = known_hosts.expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(f"{name} {host_key.public}\n")
