"""The lab's authority: what it certifies, what it refuses, and that nothing of it is lost."""

from __future__ import annotations

import hashlib
import os
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from firmware_setup.ca import files
from firmware_setup.ca.certificates import Leaf
from firmware_setup.ca.lab import LabCA
from host.errors import CallerError, StoreError
from tests.hil_lab.commands import hil_lab

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANN = Leaf("ann", "person", "measure")
PI = Leaf("pi4-01", "board", hosts=("192.0.2.14", "pi4-01.lab.example"))


@pytest.fixture
def ca(tmp_path: Path) -> LabCA:
    made = LabCA(tmp_path / "ca", now=lambda: NOW)
    made.init("our-lab")
    return made


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


class TestCertificates:
    def test_the_authority_signs_leaves_and_no_further_authority(self, ca: LabCA) -> None:
        own = certificate(ca.certificate)
        limits = own.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert (limits.ca, limits.path_length) == (True, 0)
        own.verify_directly_issued_by(own)

    def test_a_person_calls_with_one_role(self, ca: LabCA) -> None:
        made = certificate(ca.issue(ANN).certificate)
        made.verify_directly_issued_by(certificate(ca.certificate))
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [n.value for n in names] == ["hil-lab:role:measure"]
        usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca

    def test_a_board_serves_under_its_name_and_hosts(self, ca: LabCA) -> None:
        made = certificate(ca.issue(PI).certificate)
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["pi4-01", "pi4-01.lab.example"]
        assert [str(n) for n in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.14"]
        usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]

    def test_a_board_whose_clock_lags_by_months_takes_them(self, ca: LabCA) -> None:
        issued = ca.issue(ANN)
        for path in (issued.certificate, issued.authority):
            assert certificate(path).not_valid_before_utc < NOW - timedelta(days=300)
        assert issued.entry.issued == NOW.isoformat()

    def test_days_are_kept_and_no_leaf_outlives_its_authority(self, tmp_path: Path) -> None:
        ca = LabCA(tmp_path / "ca", now=lambda: NOW)
        ca.init(days=30)
        short, long = ca.issue(ANN, days=7), ca.issue(PI, days=300)
        assert certificate(short.certificate).not_valid_after_utc == NOW + timedelta(days=7)
        assert certificate(long.certificate).not_valid_after_utc == NOW + timedelta(days=30)


class TestRevocation:
    def test_both_lists_name_what_was_taken_back(self, ca: LabCA) -> None:
        issued = ca.issue(ANN)
        ca.issue(PI)
        assert ca.revoked.read_text() == "# sha256 of revoked certificates\n"
        ca.revoke("ann")
        der = ssl.PEM_cert_to_DER_cert(issued.certificate.read_text())
        assert hashlib.sha256(der).hexdigest() in ca.revoked.read_text()
        signed = x509.load_pem_x509_crl((ca.folder / "revoked.crl").read_bytes())
        assert signed.is_signature_valid(certificate(ca.certificate).public_key())
        (row,) = signed
        assert row.serial_number == certificate(issued.certificate).serial_number

    def test_a_name_is_issued_again_once_it_was_revoked_and_stays_on_the_list(
        self, ca: LabCA
    ) -> None:
        ca.issue(ANN)
        with pytest.raises(CallerError, match="hil-lab ca revoke ann takes it back"):
            ca.issue(ANN)
        ca.revoke("ann")
        ca.issue(ANN)
        first, second = ca.entries()
        assert first.revoked and not second.revoked
        assert first.fingerprint in ca.revoked.read_text()
        assert second.fingerprint not in ca.revoked.read_text()

    def test_an_expired_one_may_be_issued_again(self, ca: LabCA) -> None:
        ca.issue(ANN, days=1)
        LabCA(ca.folder, now=lambda: NOW + timedelta(days=2)).issue(ANN)
        assert len(ca.entries()) == 2

    def test_nobody_by_that_name(self, ca: LabCA) -> None:
        ca.issue(ANN)
        with pytest.raises(CallerError, match='did you mean "ann"'):
            ca.revoke("anm")


class TestRefused:
    @pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", ".", "-a", "x" * 65, "a\n", "a\0"])
    def test_names_that_are_paths_or_worse(self, ca: LabCA, name: str) -> None:
        with pytest.raises(CallerError, match="a name has"):
            ca.issue(Leaf(name, "person", "measure"))
        assert not (ca.folder / "issued").exists()

    @pytest.mark.parametrize(
        ("wanted", "word"),
        [
            (Leaf("a", "person", "adminster"), 'did you mean "administer"'),
            (Leaf("a", "person", ""), "unknown role"),
            (Leaf("a", "person", "measure", ("h",)), "a person has no hosts"),
            (Leaf("a", "board", "measure"), "a board has no role"),
            (Leaf("a", "board", hosts=("hil-lab:role:administer/",)), "neither a host name"),
            (Leaf("a", "board", hosts=("a b",)), "neither a host name"),
        ],
    )
    def test_leaves_that_make_no_sense(self, ca: LabCA, wanted: Leaf, word: str) -> None:
        with pytest.raises(CallerError, match=word):
            ca.issue(wanted)

    @pytest.mark.parametrize("days", [0, -1, 100_000])
    def test_days_that_make_no_sense(self, ca: LabCA, days: int) -> None:
        with pytest.raises(CallerError, match="a certificate lives 1 to"):
            ca.issue(ANN, days=days)

    def test_a_second_authority_in_one_folder(self, ca: LabCA) -> None:
        before = ca.certificate.read_bytes()
        with pytest.raises(CallerError, match="there is an authority"):
            ca.init()
        assert ca.certificate.read_bytes() == before

    def test_a_folder_without_one(self, tmp_path: Path) -> None:
        for work in (lambda ca: ca.issue(ANN), lambda ca: ca.revoke("a"), LabCA.entries):
            with pytest.raises(CallerError, match="hil-lab ca init makes one"):
                work(LabCA(tmp_path / "none"))
        assert not (tmp_path / "none").exists()

    @pytest.mark.parametrize("text", ["", "[]", '{"format": 9}', '{"format": 1}', "{"])
    def test_a_ledger_that_is_none(self, ca: LabCA, text: str) -> None:
        (ca.folder / "ledger.json").write_text(text)
        with pytest.raises(StoreError, match="cannot be read as a ledger"):
            ca.issue(ANN)

    def test_an_authority_that_expired(self, ca: LabCA) -> None:
        with pytest.raises(StoreError, match="expired"):
            LabCA(ca.folder, now=lambda: NOW + timedelta(days=4000)).issue(ANN)


class TestFiles:
    def test_keys_are_private_from_the_first_byte(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        modes: list[int] = []
        monkeypatch.setattr(
            files.os, "fsync", lambda file: modes.append(os.fstat(file).st_mode & 0o777)
        )
        files.write(tmp_path / "key", b"secret", files.PRIVATE)
        assert modes == [0o600]
        assert [p.name for p in tmp_path.iterdir()] == ["key"]

    def test_a_write_that_dies_leaves_what_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files.write(tmp_path / "ledger", b"old")

        def full(file: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files.os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            files.write(tmp_path / "ledger", b"new")
        assert [p.name for p in tmp_path.iterdir()] == ["ledger"]
        assert (tmp_path / "ledger").read_bytes() == b"old"

    def test_two_who_issue_at_once_lose_no_row(self, ca: LabCA) -> None:
        names = [f"p{i}" for i in range(8)]
        threads = [
            threading.Thread(target=lambda n=n: ca.issue(Leaf(n, "person", "measure")))
            for n in names
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(e.name for e in ca.entries()) == names


class TestCommand:
    def test_a_lab_from_nothing(self, tmp_path: Path) -> None:
        ca, me = tmp_path / "ca", tmp_path / "me"
        assert hil_lab("ca", "list", "--ca", ca).status == 2
        assert hil_lab("ca", "init", "--ca", ca).status == 0
        board = ("--kind", "board", "--host", "192.0.2.14")
        assert (
            "answers as pi4-01, 192.0.2.14"
            in hil_lab("ca", "issue", "pi4-01", *board, "--ca", ca).out
        )
        made = hil_lab("ca", "issue", "ann", "--out", me, "--ca", ca, "--json").json
        assert sorted(p.name for p in me.iterdir()) == ["ca.crt", "client.crt", "client.key"]
        assert (made["role"], made["revoked"]) == ("measure", "")
        assert "revoked  1 of ann" in hil_lab("ca", "revoke", "ann", "--ca", ca).out
        header, *rows = hil_lab("ca", "list", "--ca", ca).out.splitlines()
        assert header.split() == ["NAME", "KIND", "ROLE", "EXPIRES", "REVOKED"]
        assert rows[0].split()[:3] == ["pi4-01", "board", "-"]
        listed = hil_lab("ca", "list", "--ca", ca, "--json").json
        assert [bool(row["revoked"]) for row in listed] == [False, True]

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [(("issue",), "name a board or a person"), (("isue", "x"), 'did you mean "issue"')],
    )
    def test_a_wrong_command_is_one_sentence(
        self, arguments: tuple[str, ...], word: str, tmp_path: Path
    ) -> None:
        done = hil_lab("ca", *arguments, "--ca", tmp_path)
        assert done.status == 2
        (sentence,) = done.err.splitlines()
        assert word in sentence
