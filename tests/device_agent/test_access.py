"""Who calls, read off what the transport says; and the list of revoked certificates."""

from __future__ import annotations

import hashlib
import os
import ssl
from pathlib import Path

import pytest

from device_agent.access import Caller, Revoked, caller_of
from device_agent.errors import NotAllowed, Rejected, RevokedCertificate

DER = b"a certificate"


class FakeContext:
    """What gRPC says of a call."""

    def __init__(
        self, peer: str = "ipv4:192.0.2.9:5", names: tuple[str, ...] | None = None
    ) -> None:
        self._peer = peer
        self._names = names

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> dict[str, list[bytes]]:
        if self._names is None:
            return {}
        return {
            "x509_common_name": [b"ann"],
            "x509_pem_cert": [ssl.DER_cert_to_PEM_cert(DER).encode()],
            "x509_subject_alternative_name": [name.encode() for name in self._names],
        }


def test_a_certificate_says_name_role_and_fingerprint() -> None:
    caller = caller_of(FakeContext(names=("hil-lab:role:administer",)))
    assert caller == Caller("ann", "administer", hashlib.sha256(DER).hexdigest())


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("pi4-01", "192.0.2.14"),
        ("hil-lab:role:king",),
        ("hil-lab:role:",),
        ("hil-lab:role:measure", "hil-lab:role:administer"),
        ("HIL-LAB:role:measure",),
    ],
)
def test_a_certificate_without_one_known_role_calls_nothing(names: tuple[str, ...]) -> None:
    with pytest.raises(NotAllowed, match='certificate of "ann" has no role'):
        caller_of(FakeContext("ipv4:127.0.0.1:5", names))


@pytest.mark.parametrize(
    ("peer", "role"),
    [
        ("ipv4:127.0.0.1:5", "administer"),
        ("ipv6:[::1]:5", "administer"),
        ("ipv6:%5B::1%5D:5", "administer"),
        ("unix:/run/hil", "administer"),
        ("ipv4:192.0.2.9:5", "measure"),
        ("ipv4:12.7.0.1:5", "measure"),
        ("ipv6:[2001:db8::1]:5", "measure"),
    ],
)
def test_plain_text_administers_from_this_machine_alone(peer: str, role: str) -> None:
    assert caller_of(FakeContext(peer)).role == role


class TestRevoked:
    def test_the_list_is_read_again_when_it_changes(self, tmp_path: Path) -> None:
        path, ann = tmp_path / "revoked.txt", Caller("ann", "measure", "a" * 64)
        path.write_text("# nobody\n\n")
        revoked = Revoked(path)
        revoked.check(ann)
        new = tmp_path / "new"
        new.write_text(f"{'a' * 64}  # ann\n")
        os.replace(new, path)
        with pytest.raises(RevokedCertificate, match='"ann" was revoked'):
            revoked.check(ann)
        revoked.check(Caller("bob", "measure", "b" * 64))

    def test_what_was_sent_is_kept_and_only_grows(self, tmp_path: Path) -> None:
        given, kept = tmp_path / "revoked.txt", tmp_path / "state" / "revoked"
        given.write_text("a" * 64)
        kept.parent.mkdir()
        revoked = Revoked(given, kept)
        assert revoked.add(["b" * 64]) == 2
        assert revoked.add(["c" * 64]) == 3  # of another administrator, whose list lacks b
        for after_a_restart in (revoked, Revoked(given, kept)):
            for letter in "abc":
                with pytest.raises(RevokedCertificate):
                    after_a_restart.check(Caller(letter, "measure", letter * 64))
            after_a_restart.check(Caller("dan", "measure", "d" * 64))

    @pytest.mark.parametrize("sent", ["ann", "A" * 64, "a" * 63, ""])
    def test_what_is_no_fingerprint_is_refused_and_nothing_is_kept(
        self, tmp_path: Path, sent: str
    ) -> None:
        revoked = Revoked(None, tmp_path / "revoked")
        with pytest.raises(Rejected, match="is no sha256 fingerprint"):
            revoked.add(["b" * 64, sent])
        assert not (tmp_path / "revoked").exists()

    @pytest.mark.parametrize("text", ["ann\n", "A" * 64, "a" * 63])
    def test_a_list_with_anything_else_lets_nobody_in(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "revoked.txt").write_text(text)
        with pytest.raises(RevokedCertificate, match="serves nobody"):
            Revoked(tmp_path / "revoked.txt").check(Caller("ann", "measure", "c" * 64))
