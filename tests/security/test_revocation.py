"""A revocation travels to the boards by a command, and each says whether it arrived."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from device_agent.server import ServerOptions, make_server
from firmware_setup.ca.certificates import Leaf
from firmware_setup.ca.lab import Issued
from hil_lab.inventory import served
from host.errors import AccessRefused, ArtifactRejected
from tests.contracts.support import fake_machine
from tests.hil_lab.commands import hil_lab
from tests.security.lab import Lab, client, files, server_credentials

NAMES = ("pi4-01", "pi4-02")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.chdir(tmp_path)
    return Lab(tmp_path)


@contextmanager
def board(lab: Lab, name: str) -> Iterator[str]:
    """Yield the address of a board, with the list that it was provisioned with; state is kept."""
    state, issued = lab.folder / f"{name}.state", lab.ca.folder / "issued" / name
    given = lab.folder / f"{name}.revoked.txt"
    if not given.exists():
        shutil.copy(lab.ca.revoked, given)
        lab.ca.issue(Leaf(name, "board"))
    (entry,) = (e for e in lab.ca.entries() if e.name == name)
    paths = (issued / "agent.crt", issued / "agent.key", issued / "ca.crt")
    credentials = server_credentials(Issued(entry, *paths))
    options = ServerOptions(credentials=credentials, revoked=given)
    server, port = make_server(fake_machine(), state, options)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def inventory(lab: Lab, who: Path, **addresses: str) -> None:
    """List boards, reached with somebody's certificate."""
    keys = f'ca = "{lab.ca.certificate}"\ncert = "{who}/client.crt"\nkey = "{who}/client.key"\n'
    tables = [
        f'[boards.{name}]\nkind = "fake"\naddress = "{address}"\n{keys}'
        for name, address in addresses.items()
    ]
    Path("boards.toml").write_text("\n".join(tables))


def test_all_boards_hear_of_a_revocation_at_once_and_remember_it(lab: Lab) -> None:
    ann = files(lab.person("ann"))
    root = lab.person("root", "administer")
    with board(lab, NAMES[0]) as first, board(lab, NAMES[1]) as second:
        addresses = dict(zip(NAMES, (first, second), strict=True))
        inventory(lab, root.key.parent, **addresses)
        for name, address in addresses.items():
            with client(address, ann, name) as caller:
                caller.describe()
        done = hil_lab("ca", "revoke", "ann", "--send", "--ca", lab.ca.folder)
        assert done.status == 0, done.err
        assert done.out.splitlines() == [
            "revoked  1 of ann",
            "sent     pi4-01: refuses 1 certificates",
            "sent     pi4-02: refuses 1 certificates",
        ]
        for name, address in addresses.items():
            with client(address, ann, name) as caller, pytest.raises(AccessRefused):
                caller.describe()
    with (
        board(lab, NAMES[0]) as restarted,
        client(restarted, ann, NAMES[0]) as caller,
        pytest.raises(AccessRefused, match='the certificate of "ann" was revoked'),
    ):
        caller.describe()


def test_a_board_that_did_not_hear_is_named_and_told_again(lab: Lab) -> None:
    lab.person("ann")
    root = lab.person("root", "administer")
    with board(lab, NAMES[0]) as address:
        inventory(lab, root.key.parent, **{NAMES[0]: address, NAMES[1]: "127.0.0.1:1"})
        done = hil_lab("ca", "revoke", "ann", "--send", "--json", "--ca", lab.ca.folder)
        assert done.status == 1
        heard, deaf = done.json
        assert (heard["board"], heard["arrived"], heard["refused"]) == (NAMES[0], True, 1)
        assert (deaf["board"], deaf["arrived"]) == (NAMES[1], False)
        assert "no answer" in deaf["why"]
        text = hil_lab("ca", "send", "--board", NAMES[1], "--ca", lab.ca.folder)
        assert text.status == 1 and text.out.startswith(f"FAILED   {NAMES[1]}: ")
        assert f"hil-lab ca send --board {NAMES[1]} again" in text.out
        assert hil_lab("ca", "send", "--board", NAMES[0], "--ca", lab.ca.folder).status == 0


def test_who_may_only_measure_tells_nobody(lab: Lab) -> None:
    ann = lab.person("ann")
    with board(lab, NAMES[0]) as address:
        inventory(lab, ann.key.parent, **{NAMES[0]: address})
        done = hil_lab("ca", "send", "--ca", lab.ca.folder)
    assert done.status == 1
    assert 'PutRevoked needs the role "administer"' in done.out


def test_plain_text_has_nobody_to_refuse(lab: Lab) -> None:
    with (
        served(fake_machine()) as plain,
        pytest.raises(ArtifactRejected, match="serves plain text"),
    ):
        plain.put_revoked(["a" * 64])
    Path("boards.toml").write_text('[boards.x]\nkind = "fake"\naddress = "127.0.0.1:1"\n')
    done = hil_lab("ca", "send", "--ca", lab.ca.folder)
    assert done.status == 0 and "sent     x: plain text" in done.out


def test_without_boards_there_is_nobody_to_tell(lab: Lab) -> None:
    done = hil_lab("ca", "send", "--ca", lab.ca.folder)
    assert done.status == 2 and "lists no board" in done.err
