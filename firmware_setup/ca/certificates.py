"""X.509 as the lab uses it: the authority's own certificate, leaves, and the revocation list.

Builds and signs; reads and writes no file. Keys are EC P-256, which every TLS library speaks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROLE_PREFIX = "hil-lab:role:"
# The clock of a board without a battery lags by as long as it was off, and until it has the time
# it would take whoever has a newer certificate for not yet valid.
BACKDATED = timedelta(days=365)
CRL_LIFE = timedelta(days=30)
Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that signs, and its key."""

    certificate: x509.Certificate
    key: Key


@dataclass(frozen=True, slots=True)
class Leaf:
    """What to certify: a board with the hosts that it answers to, or a person with a role."""

    name: str
    purpose: Literal["board", "person"]
    role: str = ""
    hosts: tuple[str, ...] = ()


def new_key() -> Key:
    """Return a fresh key."""
    return ec.generate_private_key(ec.SECP256R1())


def self_signed(lab: str, key: Key, now: datetime, days: int) -> x509.Certificate:
    """Return the authority's certificate: it signs leaves, and no further authority."""
    usage = _usage(digital_signature=False, signs=True)
    builder = _builder(_name(lab), _name(lab), key.public_key(), now, days)
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def leaf(
    authority: Authority, wanted: Leaf, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.Certificate:
    """Return a certificate that serves one purpose: boards serve, persons call."""
    board = wanted.purpose == "board"
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if board else ExtendedKeyUsageOID.CLIENT_AUTH
    issuer = authority.certificate
    left = (issuer.not_valid_after_utc - now).days  # it is worth nothing once the authority is not
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return (
        _builder(_name(wanted.name), issuer.subject, key, now, min(days, left))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True, signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
        .add_extension(x509.SubjectAlternativeName(_names(wanted)), critical=False)
        .add_extension(signer, critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def revocation_list(
    authority: Authority, revoked: Sequence[tuple[int, datetime]], now: datetime
) -> bytes:
    """Return the signed list (PEM) of serial numbers and when they were revoked."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now)
        .next_update(now + CRL_LIFE)
    )
    for serial, when in revoked:
        row = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
        builder = builder.add_revoked_certificate(row.build())
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the sha256 of the certificate's DER, in hex: what boards refuse revoked ones by."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def signed(certificate: x509.Certificate, content: bytes, signature: str) -> bool:
    """Whether the key of a certificate signed this (ECDSA with SHA-256, hex)."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(bytes.fromhex(signature), content, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def key_pem(key: Key) -> bytes:
    """Return a key as PEM, not encrypted: the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _names(wanted: Leaf) -> list[x509.GeneralName]:
    """Return what a leaf may be called: a role for persons, the board's name and hosts else."""
    if wanted.purpose == "person":
        return [x509.UniformResourceIdentifier(f"{ROLE_PREFIX}{wanted.role}")]
    return [_host(host) for host in dict.fromkeys((wanted.name, *wanted.hosts))]


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, digital_signature: bool, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
