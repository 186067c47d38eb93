"""How an inventory says a board is reached: TLS, or plain text where that may be; opens nothing.

`ca`, `cert` and `key` name files, from the inventory's folder or `~`; left out, they are the
user's own. Plain text is for loopback, and elsewhere for `insecure = true`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host.boards.tls import TlsFiles
from host.errors import RecipeError

WIRE_KEYS = ("ca", "cert", "key", "insecure")
OWN_FOLDER = Path("~/.config/hil-lab")
OWN_FILES = {"ca": "ca.crt", "cert": "client.crt", "key": "client.key"}


def tls_files(table: Mapping[str, Any], where: str, folder: Path) -> TlsFiles | None:
    """Return what TLS needs, or None for plain text; raises RecipeError for a contradiction."""
    insecure = table.get("insecure", False)
    if not isinstance(insecure, bool):
        raise RecipeError(f"{where}.insecure: must be true or false")
    given = {key: path_of(table, key, where, folder) for key in OWN_FILES if key in table}
    if insecure and given:
        raise RecipeError(f"{where}.insecure: contradicts {next(iter(given))}: leave one out")
    if insecure or (not given and is_loopback(host_of(table["address"]))):
        return None
    own = {key: (OWN_FOLDER / name).expanduser() for key, name in OWN_FILES.items()}
    return TlsFiles(**{**own, **given})


def named(name: str, address: str) -> str:
    """Return whom a certificate must name: the board by its name where the address is a number."""
    return name if is_number(host_of(address)) or host_of(address) == "localhost" else ""


def host_of(address: str) -> str:
    """Return the host of `host:port`."""
    return address.rpartition(":")[0].strip("[]")


def is_number(host: str) -> bool:
    """Whether a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host is this very machine."""
    return host == "localhost" or (is_number(host) and ipaddress.ip_address(host).is_loopback)


def path_of(table: Mapping[str, Any], key: str, where: str, folder: Path) -> Path:
    """Return the file that a key names, from the inventory's folder or `~`."""
    if not isinstance(table[key], str):
        raise RecipeError(f"{where}.{key}: must be a path, as a string")
    return folder / Path(table[key]).expanduser()
