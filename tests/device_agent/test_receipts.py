"""The board's key and its signatures: made once, mode 0600, and honest where they are missing."""

from __future__ import annotations

import base64
import shutil
import stat
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from device_agent.receipts import KEY_FILE, Signer
from protos.values import Receipt

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


def verify(receipt: Receipt, statement: str) -> None:
    public = load_der_public_key(base64.b64decode(receipt.key))
    assert isinstance(public, Ed25519PublicKey)
    public.verify(base64.b64decode(receipt.signature), statement.encode())


@needs_openssl
def test_another_implementation_verifies_the_signature(tmp_path: Path) -> None:
    receipt = Signer(tmp_path).sign('{"a":"é"}')
    verify(receipt, '{"a":"é"}')
    with pytest.raises(InvalidSignature):
        verify(receipt, '{"a":"e"}')


@needs_openssl
def test_the_key_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    first, again = Signer(tmp_path).sign("x"), Signer(tmp_path).sign("x")
    assert first == again
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert Signer(_other(tmp_path)).sign("x").key != first.key


def test_without_openssl_a_receipt_says_why_it_is_not_signed(tmp_path: Path) -> None:
    receipt = Signer(tmp_path, program="/nonexistent/openssl").sign("x")
    assert (receipt.signature, receipt.key) == ("", "")
    assert receipt.unsigned == "not signed: the board has no openssl"


@needs_openssl
def test_a_key_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text("nonsense")
    assert Signer(tmp_path).sign("x").unsigned.startswith("not signed: openssl failed")


@needs_openssl
def test_a_key_that_a_power_cut_emptied_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(b"")
    verify(Signer(tmp_path).sign("x"), "x")


def _other(folder: Path) -> Path:
    other = folder / "other"
    other.mkdir()
    return other
