"""Checks a measurement against its receipt: signature, then every number; keeps no keys.

What a valid receipt proves, and what not: docs/protocol.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from host.boards.types import Measurement
from protos.receipt import Measured
from protos.verdict import judge

State = Literal["signed", "unsigned", "forged", "altered"]
Signer = Literal["", "certified", "another", "unknown"]


@dataclass(frozen=True, slots=True)
class Certified:
    """The public key that the lab certified for a board, or why there is none."""

    key: str = ""
    why: str = ""


NOBODY = Certified(why="no certificate was looked for")


@dataclass(frozen=True, slots=True)
class Check:
    """What became of a receipt; `key` is the short name of the key that signed it.

    `signer` says of a good signature whether it is of the key that the lab certified for the board,
    of another one, or of one that nobody certified; `why` then says why nobody did.
    """

    state: State
    why: str = ""
    key: str = ""
    signer: Signer = ""

    @property
    def honest(self) -> bool:
        """Whether nothing speaks against what is kept; unsigned is no lie."""
        return self.state in ("signed", "unsigned") and self.signer != "another"


def check(measurement: Measurement, certified: Certified = NOBODY) -> Check:
    """Say whether the board signed exactly what is kept, and with which key.

    `altered`: samples, conditions, plan or verdict are not those of the receipt; `forged`: the
    signature is not of this key. Needs the package cryptography.
    """
    receipt = measurement.receipt
    if receipt is None or (not receipt.signature and not receipt.unsigned):
        return Check("unsigned", "it has no receipt")
    if statement(measurement, receipt.statement) != receipt.statement:
        return Check("altered", "what is kept is not what the receipt states")
    stated = judge(measurement.protocol, measurement.blocks, measurement.anchors)
    if stated != (measurement.verdict, measurement.reasons):
        return Check("altered", "the verdict that is kept is not the receipt's")
    if receipt.unsigned:
        return Check("unsigned", receipt.unsigned)
    key = key_name(receipt.key)
    if not _verified(receipt.key, receipt.signature, receipt.statement):
        return Check("forged", "the signature does not fit the statement and the key", key)
    if not certified.key:
        return Check("signed", certified.why, key, "unknown")
    if receipt.key == certified.key:
        return Check("signed", key=key, signer="certified")
    return Check("signed", f"the lab certified {key_name(certified.key)}", key, "another")


def statement(measurement: Measurement, stated: str) -> str:
    """Return what a receipt of this measurement states; only the agent's version is taken over."""
    try:
        agent = str(json.loads(stated)["agent"])
    except (ValueError, KeyError, TypeError):
        agent = ""
    return Measured(
        artifact=measurement.artifact,
        anchor=measurement.anchor,
        board=measurement.board,
        fingerprint=measurement.fingerprint,
        agent=agent,
        plan=measurement.protocol,
        blocks=measurement.blocks,
        anchors=measurement.anchors,
        energy=measurement.energy,
    ).statement()


def key_name(key: str) -> str:
    """Return the first 12 hex digits of a public key's sha256, for people."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def _verified(key: str, signature: str, text: str) -> bool:
    # Only the host has this package.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        public = load_der_public_key(base64.b64decode(key, validate=True))
        if not isinstance(public, Ed25519PublicKey):
            return False
        public.verify(base64.b64decode(signature, validate=True), text.encode())
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True
