"""Who is let in: nobody without a good certificate and a role, and the error says which it was."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from device_agent.__main__ import run_agent
from device_agent.access import CALLS, Call
from device_agent.server import ServerOptions, make_server
from firmware_setup.ca.certificates import Leaf
from firmware_setup.ca.lab import LabCA
from hil_lab.inventory import open_board, read_inventory, served
from hil_lab.wires import OWN_FILES
from host.boards.client import BoardClient
from host.errors import AccessRefused, BoardUnreachable, CallerError, RecipeError
from protos import board_pb2 as pb
from protos import board_pb2_grpc
from tests.contracts.support import fake_machine
from tests.hil_lab.commands import hil_lab
from tests.security.lab import BOARD, Lab, client, files, server_credentials

ROOT = Path(__file__).parent.parent.parent
ACQUIRE = "/hil.v1.Board/Acquire"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def other(tmp_path: Path) -> Lab:
    """An authority that is not ours."""
    return Lab(tmp_path / "other")


def test_a_person_of_the_lab_is_let_in(lab: Lab) -> None:
    with lab.served() as address, client(address, files(lab.person("ann"))) as board:
        assert board.describe().name == "fake"
        with board.lease("ann") as session:
            assert session.info.name == "fake"


def test_a_certificate_from_after_the_board_lost_the_time_is_let_in(lab: Lab) -> None:
    """To a clock that lags by ten days, what is made today is made in ten days."""
    later = LabCA(lab.ca.folder, now=lambda: datetime.now(UTC) + timedelta(days=10))
    who = files(later.issue(Leaf("ann", "person", "measure")))
    with lab.served() as address, client(address, who) as board:
        assert board.describe().name == "fake"


class TestRefused:
    def refused(self, address: str, who: object, match: str, name: str = BOARD) -> None:
        with (
            client(address, who, name) as board,
            pytest.raises(AccessRefused, match=match) as caught,
        ):
            board.describe()
        assert "\n" not in str(caught.value)

    def test_without_a_certificate(self, lab: Lab) -> None:
        with (
            lab.served() as address,
            grpc.secure_channel(
                address,
                grpc.ssl_channel_credentials(lab.ca.certificate.read_bytes()),
                (("grpc.ssl_target_name_override", BOARD),),
            ) as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            board_pb2_grpc.BoardStub(channel).Describe(pb.DescribeRequest(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    def test_in_plain_text(self, lab: Lab) -> None:
        with (
            lab.served() as address,
            BoardClient(address, deadline_s=2) as board,
            pytest.raises(BoardUnreachable, match="if it expects TLS, see ca, cert and key"),
        ):
            board.describe()

    def test_of_another_authority(self, lab: Lab, other: Lab) -> None:
        who = files(other.person("mallory", "administer"), lab.ca.certificate)
        with lab.served() as address:
            self.refused(address, who, "our certificate .* is not of our authority")

    def test_of_an_authority_that_the_board_does_not_know(self, lab: Lab, other: Lab) -> None:
        """We trust the board, and it does not trust us: it hangs up without a word."""
        credentials = server_credentials(lab.board, other.ca.certificate.read_bytes())
        settings = ServerOptions(credentials=credentials)
        server, port = make_server(fake_machine(), lab.folder / "state", settings)
        server.start()
        self.refused(f"127.0.0.1:{port}", files(lab.person("ann")), "refused our certificate")
        server.stop(None).wait()

    def test_expired(self, lab: Lab) -> None:
        who = files(lab.expired(Leaf("ann", "person", "measure")))
        with lab.served() as address:
            self.refused(address, who, "our certificate .* expired on ")

    def test_revoked_while_the_board_serves(self, lab: Lab) -> None:
        who = files(lab.person("ann"))
        with lab.served() as address, client(address, who) as board:
            board.describe()
            lab.ca.revoke("ann")
            with pytest.raises(AccessRefused, match='the certificate of "ann" was revoked'):
                board.describe()
            bob = files(lab.person("bob"))
            with client(address, bob) as other:
                assert other.describe().state == "free"

    def test_revoked_while_it_holds_the_board(self, lab: Lab) -> None:
        who = files(lab.person("ann"))
        with (
            lab.served() as address,
            client(address, who) as board,
            pytest.raises(AccessRefused, match="was revoked"),
            board.lease("ann") as session,
        ):
            lab.ca.revoke("ann")
            session.cancel()

    def test_a_board_that_calls(self, lab: Lab) -> None:
        stolen = lab.ca.issue(Leaf("pi4-02", "board"))
        with lab.served() as address:
            self.refused(address, files(stolen), "refused our certificate")

    def test_a_person_who_serves(self, lab: Lab) -> None:
        with lab.served(lab.person("mallory")) as address:
            self.refused(address, files(lab.person("ann")), "board's certificate", "mallory")

    def test_a_board_of_another_authority(self, lab: Lab, other: Lab) -> None:
        with lab.served(other.board) as address:
            self.refused(address, files(lab.person("ann")), "is not of our authority")

    def test_a_board_by_another_name(self, lab: Lab) -> None:
        with lab.served() as address:
            self.refused(address, files(lab.person("ann")), 'not that of "pi4-02"', "pi4-02")

    def test_a_board_whose_certificate_expired(self, lab: Lab) -> None:
        with lab.served(lab.expired(Leaf(BOARD, "board"))) as address:
            self.refused(address, files(lab.person("ann")), "board's certificate expired")

    def test_a_board_that_restarts_behind_a_gateway_is_only_away(self, lab: Lab) -> None:
        """Who hangs up in the handshake, or resets it, has not judged a certificate."""
        with (
            hanging_up() as address,
            client(address, files(lab.person("ann"))) as board,
            pytest.raises(BoardUnreachable),
        ):
            board.describe()

    def test_a_board_without_tls(self, lab: Lab) -> None:
        with served(fake_machine()) as plain:
            self.refused(plain.address, files(lab.person("ann")), "does not speak TLS")


@contextmanager
def hanging_up() -> Iterator[str]:
    """Yield the address of what takes connections and drops them, by turns with a reset."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drop() -> None:
            for turn in itertools.count():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                if turn % 2:
                    connection.recv(1)
                    reset = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                connection.close()

        dropper = threading.Thread(target=drop)
        dropper.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        dropper.join()


class TestRoles:
    def test_a_role_that_is_not_enough_is_refused(self, lab: Lab) -> None:
        calls = {**CALLS, ACQUIRE: replace(CALLS[ACQUIRE], role="administer")}
        ann, root = files(lab.person("ann")), files(lab.person("root", "administer"))
        with lab.served(calls=calls) as address, client(address, ann) as board:
            assert board.describe()
            message = 'Acquire needs the role "administer", and "ann" has "measure"'
            with pytest.raises(AccessRefused, match=message), board.lease("ann"):
                pass
            with client(address, root) as board, board.lease("root"):
                pass

    def test_a_call_that_the_table_lacks_is_refused_to_everybody(self, lab: Lab) -> None:
        calls = {method: call for method, call in CALLS.items() if method != ACQUIRE}
        root = files(lab.person("root", "administer"))
        with (
            lab.served(calls=calls) as address,
            client(address, root) as board,
            pytest.raises(AccessRefused, match="nobody may call it"),
            board.lease("root"),
        ):
            pass

    def test_the_table_names_every_call_of_the_contract(self) -> None:
        service = pb.DESCRIPTOR.services_by_name["Board"]
        methods = {f"/{service.full_name}/{method.name}" for method in service.methods}
        assert methods == {name for name in CALLS if name.startswith("/hil.v1.")}

    def test_a_call_without_a_deadline_is_ended(self, tmp_path: Path) -> None:
        calls = {**CALLS, "/hil.v1.Board/Telemetry": Call(longest_s=0.5)}
        server, port = make_server(fake_machine(), tmp_path, ServerOptions(calls=calls))
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = board_pb2_grpc.BoardStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                list(stub.Telemetry(pb.TelemetryRequest(period_s=0.05)))
        server.stop(None).wait()
        assert caught.value.code() is grpc.StatusCode.CANCELLED


class TestRevocationList:
    @pytest.mark.parametrize("spoil", [Path.unlink, lambda p: p.write_text("no fingerprint\n")])
    def test_a_board_that_cannot_read_it_serves_nobody(self, lab: Lab, spoil: object) -> None:
        with lab.served() as address, client(address, files(lab.person("ann"))) as board:
            board.describe()
            spoil(lab.ca.revoked)
            with pytest.raises(AccessRefused, match="cannot read its list"):
                board.describe()
            lab.ca.revoked.write_text("# none\n")
            assert board.describe()


class TestAgent:
    @pytest.mark.parametrize(
        ("options", "word"),
        [
            (["--bind", "0.0.0.0:0"], "--insecure"),
            (["--tls-cert", "x", "--tls-key", "y"], "give all of"),
            (["--revoked", "x"], "without TLS there are none"),
            (["--tls-cert", "x", "--tls-key", "x", "--tls-client-ca", "x"], "No such file"),
        ],
    )
    def test_what_would_be_open_is_refused(
        self, options: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run_agent([*options, "--state", str(tmp_path)]) == 2
        assert word in capsys.readouterr().err

    def test_a_lab_that_was_made_by_commands_lets_in_and_keeps_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """CA, board and person by the command line; the agent a process of its own."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        own = tmp_path / ".config" / "hil-lab"
        for arguments in (
            ("init",),
            ("issue", BOARD, "--kind", "board", "--out", "board"),
            ("issue", "ann", "--out", own),
        ):
            assert hil_lab("ca", *arguments).status == 0
        with agent(tmp_path / "board", own / "ca" / "revoked.txt") as port:
            text = f'[boards.{BOARD}]\nkind = "rpi4"\naddress = "127.0.0.1:{port}"\n'
            names = "".join(f'{k} = "{own / f}"\n' for k, f in OWN_FILES.items())
            Path("boards.toml").write_text(text + names)
            assert hil_lab("boards", "show", BOARD, "--json").json["state"] == "free"
            assert hil_lab("ca", "revoke", "ann").status == 0
            done = hil_lab("boards", "show", BOARD)
        assert done.status == 1
        assert done.err.endswith('the certificate of "ann" was revoked\n')


@contextmanager
def agent(board: Path, revoked: Path) -> Iterator[int]:
    """Run `hil-lab agent` with the files of a board; yields its port."""
    command = [sys.executable, "-m", "device_agent", "--bind", "127.0.0.1:0", "--name", BOARD]
    command += ["--state", str(board / "state"), "--revoked", str(revoked)]
    command += ["--tls-cert", str(board / "agent.crt"), "--tls-key", str(board / "agent.key")]
    command += ["--tls-client-ca", str(board / "ca.crt"), "--require-sandbox"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert running.stdout
    try:
        yield int(running.stdout.readline().rpartition(":")[2])
    finally:
        running.terminate()
        running.wait()
        running.stdout.close()


class TestInventory:
    def inventory(self, folder: Path, address: str, more: str) -> Path:
        path = folder / "boards.toml"
        text = f'[boards.{BOARD}]\nkind = "rpi4"\naddress = "{address}"\n{more}\n'
        path.write_text(text)
        return path

    def test_a_board_is_reached_by_the_files_that_it_names(self, lab: Lab, tmp_path: Path) -> None:
        lab.ca.issue(Leaf("ann", "person", "measure"), out=tmp_path / "me")
        more = 'ca = "me/ca.crt"\ncert = "me/client.crt"\nkey = "me/client.key"'
        with lab.served() as address:
            listed = read_inventory(self.inventory(tmp_path, address, more))
            with open_board(BOARD, listed) as board:
                assert board.describe().name == "fake"

    def test_the_users_own_files_are_the_default(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        entry = read_inventory(self.inventory(tmp_path, "192.0.2.1:1", ""))[BOARD]
        assert entry.tls and entry.tls.key == tmp_path / ".config/hil-lab/client.key"
        with pytest.raises(CallerError, match=r"pi4-01: .*ca\.crt: No such file.*insecure = true"):
            entry.client()

    @pytest.mark.parametrize(
        ("address", "more", "plain"),
        [
            ("127.0.0.1:1", "", True),
            ("localhost:1", "", True),
            ("[::1]:1", "", True),
            ("192.0.2.1:1", "insecure = true", True),
            ("192.0.2.1:1", "", False),
            ("127.0.0.1.example.org:1", "", False),
        ],
    )
    def test_plain_text_is_for_loopback_and_where_it_is_asked_for(
        self, tmp_path: Path, address: str, more: str, plain: bool
    ) -> None:
        entry = read_inventory(self.inventory(tmp_path, address, more))[BOARD]
        assert (entry.tls is None) == plain

    @pytest.mark.parametrize(
        ("more", "word"),
        [
            ('insecure = "yes"', "insecure: must be true or false"),
            ('insecure = true\nca = "x"', "contradicts ca"),
            ("cert = 3", "cert: must be a path"),
        ],
    )
    def test_a_wrong_wire_names_the_key(self, tmp_path: Path, more: str, word: str) -> None:
        with pytest.raises(RecipeError, match=word):
            read_inventory(self.inventory(tmp_path, "192.0.2.1:1", more))


def test_no_key_is_readable_by_others(lab: Lab) -> None:
    lab.person("ann")
    assert lab.board.key.exists()
    keys = list(lab.ca.folder.rglob("*.key"))
    assert len(keys) == 3
    assert {os.stat(key).st_mode & 0o777 for key in keys} == {0o600}
