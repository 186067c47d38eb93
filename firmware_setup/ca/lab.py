"""The authority in its folder: make it, issue, revoke, list; never talks to a board.

```
ca.crt  ca.key          the authority; the key is what the whole lab trusts
ledger.json             every certificate ever issued
revoked.crl             the signed list of revoked ones, for whatever reads X.509
revoked.txt             the same as fingerprints: what an agent takes with --revoked
issued/NAME/            what was made for a board or a person
```
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from filelock import FileLock

from firmware_setup.ca.certificates import (
    BACKDATED,
    Authority,
    Leaf,
    certificate_pem,
    fingerprint,
    key_pem,
    leaf,
    new_key,
    revocation_list,
    self_signed,
    signed,
)
from firmware_setup.ca.files import PRIVATE, private_folder, write
from firmware_setup.ca.ledger import Entry, read_ledger, write_ledger
from host.errors import CallerError, StoreError
from host.registry import did_you_mean

ROLES = ("measure", "administer")
CA_DAYS, LEAF_DAYS = 3650, 365
MAX_DAYS = 20 * 365
# Of the two files that are made for a board or a person.
STEMS = {"board": "agent", "person": "client"}
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?|::1?")


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Issued:
    """Where what was made for a board or a person lies."""

    entry: Entry
    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True)
class LabCA:
    """The authority in a folder; `now` is the clock, in UTC."""

    folder: Path
    now: Callable[[], datetime] = _now

    @property
    def certificate(self) -> Path:
        """What boards and clients trust."""
        return self.folder / "ca.crt"

    @property
    def revoked(self) -> Path:
        """Fingerprints of revoked certificates: what agents are given."""
        return self.folder / "revoked.txt"

    def init(self, lab: str = "hil-lab", days: int = CA_DAYS) -> None:
        """Make the authority; raises CallerError where there is one."""
        _check_name(lab)
        _check_days(days)
        private_folder(self.folder)
        with self._locked(fresh=True):
            if self._key.exists() or self.certificate.exists():
                raise CallerError(f"{self.folder}: there is an authority; delete it to start over")
            key = new_key()
            authority = Authority(self_signed(lab, key, self.now(), days), key)
            write(self._key, key_pem(key), PRIVATE)
            write_ledger(self._ledger, [])
            self._write_revoked(authority, [])
            write(self.certificate, certificate_pem(authority.certificate))

    def issue(self, wanted: Leaf, days: int = LEAF_DAYS, out: Path | None = None) -> Issued:
        """Make a key and a certificate; raises CallerError for names that cannot be certified."""
        _check_leaf(wanted)
        _check_days(days)
        with self._locked():
            entries, authority = self.entries(), self._authority()
            if taken := [e for e in entries if e.name == wanted.name and e.live(self.now())]:
                raise CallerError(
                    f"{wanted.name} has a certificate until {taken[0].expires[:10]}; "
                    f"hil-lab ca revoke {wanted.name} takes it back"
                )
            key = new_key()
            made = leaf(authority, wanted, key.public_key(), self.now(), days)
            issued = self._issued(_entry(wanted, made), out)
            # The ledger first: a certificate that it lacks could not be revoked.
            write_ledger(self._ledger, [*entries, issued.entry])
            write(issued.key, key_pem(key), PRIVATE)
            write(issued.certificate, certificate_pem(made))
            write(issued.authority, self.certificate.read_bytes())
            return issued

    def revoke(self, name: str) -> list[Entry]:
        """Take back every certificate of a name and write the lists; return what was good."""
        with self._locked():
            entries, authority = self.entries(), self._authority()
            if name not in {e.name for e in entries}:
                hint = did_you_mean(name, sorted({e.name for e in entries}))
                raise CallerError(f'no certificate of "{name}"{hint}')
            now = self.now().isoformat()
            taken = [e for e in entries if e.name == name and not e.revoked]
            after = [replace(e, revoked=now) if e in taken else e for e in entries]
            write_ledger(self._ledger, after)
            self._write_revoked(authority, after)
            return taken

    def sign(self, content: bytes) -> str:
        """Return the authority's signature of something (ECDSA with SHA-256, hex)."""
        with self._locked():
            return self._authority().key.sign(content, ec.ECDSA(hashes.SHA256())).hex()

    def signed(self, content: bytes, signature: str) -> bool:
        """Whether the authority signed this."""
        certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return signed(certificate, content, signature)

    def entries(self) -> list[Entry]:
        """Return everything that was issued, oldest first."""
        if not self.certificate.exists():
            raise CallerError(f"{self.folder}: no authority; hil-lab ca init makes one")
        return read_ledger(self._ledger)

    @property
    def _key(self) -> Path:
        return self.folder / "ca.key"

    @property
    def _ledger(self) -> Path:
        return self.folder / "ledger.json"

    @contextmanager
    def _locked(self, *, fresh: bool = False) -> Iterator[None]:
        """One change at a time: two that read the ledger together would lose a row."""
        if not fresh and not self.folder.is_dir():
            raise CallerError(f"{self.folder}: no authority; hil-lab ca init makes one")
        with FileLock(self.folder / ".lock"):
            yield

    def _authority(self) -> Authority:
        try:
            key = serialization.load_pem_private_key(self._key.read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        except (OSError, ValueError, TypeError) as e:
            raise StoreError(f"{self.folder}: the authority's key cannot be read ({e})") from e
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise StoreError(f"{self._key}: not a key of this program")
        if certificate.not_valid_after_utc <= self.now():
            raise StoreError(f"{self.certificate}: expired; start over with a new authority")
        return Authority(certificate, key)

    def _issued(self, entry: Entry, out: Path | None) -> Issued:
        folder, stem = out or self.folder / "issued" / entry.name, STEMS[entry.kind]
        private_folder(folder)
        paths = (folder / f"{stem}.crt", folder / f"{stem}.key", folder / "ca.crt")
        return Issued(entry, *paths)

    def _write_revoked(self, authority: Authority, entries: Sequence[Entry]) -> None:
        taken = [e for e in entries if e.revoked]
        rows = [(int(e.serial, 16), datetime.fromisoformat(e.revoked)) for e in taken]
        write(self.folder / "revoked.crl", revocation_list(authority, rows, self.now()))
        lines = [f"{e.fingerprint}  # {e.name}, {e.revoked}\n" for e in taken]
        write(self.revoked, "".join(["# sha256 of revoked certificates\n", *lines]).encode())


def _entry(wanted: Leaf, made: x509.Certificate) -> Entry:
    return Entry(
        name=wanted.name,
        kind=wanted.purpose,
        role=wanted.role,
        hosts=wanted.hosts,
        serial=f"{made.serial_number:x}",
        fingerprint=fingerprint(made),
        issued=(made.not_valid_before_utc + BACKDATED).isoformat(),
        expires=made.not_valid_after_utc.isoformat(),
    )


def _check_leaf(wanted: Leaf) -> None:
    _check_name(wanted.name)
    if wanted.purpose == "person" and wanted.role not in ROLES:
        raise CallerError(f'unknown role "{wanted.role}"{did_you_mean(wanted.role, ROLES)}')
    if wanted.purpose == "person" and wanted.hosts:
        raise CallerError("a person has no hosts; --kind board certifies a board")
    if wanted.purpose == "board" and wanted.role:
        raise CallerError("a board has no role; --kind person certifies a person")
    for host in wanted.hosts:
        if not _HOST.fullmatch(host):
            raise CallerError(f'"{host}" is neither a host name nor an address')


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise CallerError(
            f'"{name}": a name has 1 to 64 letters, digits, dots, dashes, underscores'
        )


def _check_days(days: int) -> None:
    if not 0 < days <= MAX_DAYS:
        raise CallerError(f"{days} days: a certificate lives 1 to {MAX_DAYS} days")
