"""The client: retries, resumed and corrupt uploads, heartbeat, versions, messages of errors."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import grpc
import pytest

from device_agent.server import ServerOptions, make_server
from hil_lab.inventory import served
from hil_lab.simboard.faults import CorruptUpload
from host.artifact import RUNTIME_ABI, Artifact
from host.boards import client as client_module
from host.boards.care import Care
from host.boards.client import BoardClient
from host.boards.protocol import QUICK
from host.boards.wire import retried
from host.errors import (
    ArtifactRejected,
    BoardFull,
    BoardUnreachable,
    LeaseLost,
    VersionMismatch,
)
from tests.contracts.support import FakeRunner, fake_machine, plain_artifact


@pytest.fixture
def artifact(library: bytes, tmp_path: Path) -> Artifact:
    return plain_artifact(tmp_path / "artifact", library)


def test_host_and_agent_have_one_runtime_abi() -> None:
    from device_agent import runner

    assert runner.RUNTIME_ABI == RUNTIME_ABI


def test_a_dead_board_is_unreachable_within_the_deadline() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        start = time.monotonic()
        with (
            BoardClient(f"127.0.0.1:{held.getsockname()[1]}", deadline_s=2) as client,
            pytest.raises(BoardUnreachable, match="no answer"),
        ):
            client.describe()
        assert time.monotonic() - start < 5


def test_idempotent_calls_are_tried_again_until_the_deadline() -> None:
    class Gone(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNAVAILABLE

        def details(self) -> str:
            return "gone"

        def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
            return ()

    left: list[float] = []

    def call(left_s: float) -> str:
        left.append(left_s)
        if len(left) < 3:
            raise Gone
        return "here"

    assert retried(call, "board", 5.0) == "here"
    assert left == sorted(left, reverse=True) and left[0] <= 5.0


def test_a_corrupt_upload_is_sent_again_and_somebody_told(
    artifact: Artifact, tmp_path: Path
) -> None:
    told: list[str] = []
    with (
        served(fake_machine(), "corrupt-upload", tmp_path / "state") as client,
        client.lease("me", care=Care(told.append)) as session,
    ):
        session.upload(artifact)
        assert session.verify(artifact).layers
    (line,) = told
    assert line.startswith("again    ") and line.endswith("send it again")


def test_an_upload_that_is_always_corrupt_is_rejected(artifact: Artifact, tmp_path: Path) -> None:
    options = ServerOptions(interceptors=(CorruptUpload(uploads=99),))
    server, port = make_server(fake_machine(), tmp_path / "state", options)
    server.start()
    try:
        with (
            BoardClient(f"127.0.0.1:{port}") as client,
            client.lease("me") as session,
            pytest.raises(ArtifactRejected, match="send it again"),
        ):
            session.upload(artifact)
    finally:
        server.stop(0).wait()


def test_a_full_board_says_so(artifact: Artifact, tmp_path: Path) -> None:
    server, port = make_server(
        fake_machine(), tmp_path / "state", ServerOptions(budget_bytes=100_000)
    )
    server.start()
    try:
        with (
            BoardClient(f"127.0.0.1:{port}") as client,
            client.lease("me") as session,
            pytest.raises(BoardFull, match="no room for 1048576 bytes"),
        ):
            session.upload(artifact)
    finally:
        server.stop(0).wait()


def test_a_blob_that_is_there_never_travels_twice(artifact: Artifact, tmp_path: Path) -> None:
    with (
        served(fake_machine(), state_dir=tmp_path / "state") as client,
        client.lease("me") as session,
    ):
        session.upload(artifact)
        for blob in (artifact.root / "blobs").iterdir():
            blob.unlink()
        with pytest.raises(ArtifactRejected):
            artifact.read_blob(next(artifact.blobs()).digest)
        session.upload(artifact)  # would have to read what is gone


def test_the_heartbeat_outlives_the_ttl() -> None:
    with served(fake_machine()) as client, client.lease("me", ttl_s=0.6):
        time.sleep(1.2)
        assert client.describe().holder == "me"


def test_a_lease_without_heartbeat_is_lost_and_the_next_call_says_so(artifact: Artifact) -> None:
    with served(fake_machine()) as client, client.lease("me", ttl_s=0.3) as session:
        session._heart.stop(1.0)
        time.sleep(0.5)
        with pytest.raises(LeaseLost, match="expired"):
            session.measure(artifact, QUICK)


def test_waiting_for_a_board_gets_it_when_it_is_free() -> None:
    with served(fake_machine()) as client, client.lease("first", ttl_s=0.5) as session:
        session._heart.stop(1.0)
        with client.lease("second", wait_s=5):
            assert client.describe().holder == "second"


def test_an_agent_of_another_service_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SERVICE_VERSION", 99)
    with served(fake_machine()) as client, pytest.raises(VersionMismatch, match="--update"):
        client.describe()


def test_an_agent_of_another_runtime_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "RUNTIME_ABI", 99)
    with (
        served(fake_machine()) as client,
        pytest.raises(VersionMismatch, match="runtime ABI 1, this host builds for 99"),
        client.lease("me"),
    ):
        pass


def test_a_slow_network_is_only_slow(artifact: Artifact) -> None:
    with (
        served(fake_machine(FakeRunner()), "slow-network") as client,
        client.lease("me") as session,
    ):
        assert session.measure(artifact, QUICK).verdict == "trusted"
