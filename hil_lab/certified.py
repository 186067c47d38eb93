"""Which key the lab certified for a board's receipts, by its signed baseline; signs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509

from firmware_setup.ca.certificates import signed
from hil_lab.baselines import baseline_path, read_baseline
from hil_lab.inventory import default_inventory, is_built_in
from hil_lab.wires import OWN_FILES, OWN_FOLDER
from host.boards.receipts import Certified
from host.canonical import canonical_json
from host.errors import StoreError

# Where an authority's certificate lies: a person's own, or that of who keeps the authority.
AUTHORITIES = (OWN_FOLDER / OWN_FILES["ca"], OWN_FOLDER / "ca" / OWN_FILES["ca"])


def certified_key(board: str) -> Certified:
    """Return the key that the lab certified for a board, or why there is none."""
    if is_built_in(board):
        return Certified(why="boards that are built in make a new key each time they are opened")
    kept, path = read_baseline(board), baseline_path(board)
    if kept is None:
        return Certified(why=f"there is no {path} here; hil-lab provision makes one")
    authority = _authority(board)
    if authority is None:
        return Certified(why=f"{AUTHORITIES[0]} is not here, so {path} cannot be checked")
    signature = str(kept.pop("signature", ""))
    if not _signed(authority, kept, signature):
        return Certified(why=f"{path} is not signed by {authority}")
    if kept.get("board") != board:
        return Certified(why=f"{path} is of another board, {kept.get('board')}")
    if not (key := str(kept.get("receipt_key", ""))):
        return Certified(why=f"{path} names no key; provision again")
    return Certified(key)


def _signed(authority: Path, kept: Mapping[str, Any], signature: str) -> bool:
    """Whether an authority signed a baseline; raises StoreError for a file that is none."""
    try:
        certificate = x509.load_pem_x509_certificate(authority.read_bytes())
    except (OSError, ValueError) as e:
        raise StoreError(f"{authority}: cannot be read as an authority's certificate ({e})") from e
    return signed(certificate, canonical_json(dict(kept)).encode(), signature)


def _authority(board: str) -> Path | None:
    """Return the certificate that this board is trusted by, None where there is none."""
    entry = default_inventory().get(board)
    named = [entry.tls.ca] if entry and entry.tls else []
    candidates = [*named, *(path.expanduser() for path in AUTHORITIES)]
    return next((path for path in candidates if path.is_file()), None)
