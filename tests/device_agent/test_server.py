"""The served agent: standard services, one run at a time, cancel, quarantine, kill and restart."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from device_agent.__main__ import run_agent
from device_agent.errors import Crashed
from hil_lab.inventory import served
from host.artifact import Artifact
from host.boards.client import BoardClient
from host.boards.protocol import QUICK
from host.canonical import canonical_json
from host.errors import (
    BoardBusy,
    BoardFull,
    BoardUnreachable,
    HilError,
    LeaseLost,
    MeasurementFailed,
)
from protos import board_pb2 as pb
from protos import board_pb2_grpc
from protos.values import UNDER_VOLTAGE, Conditions
from tests.contracts.support import FakeProbes, FakeRunner, fake_machine, plain_artifact


@pytest.fixture
def artifact(library: bytes, tmp_path: Path) -> Artifact:
    return plain_artifact(tmp_path / "artifact", library)


def test_health_and_reflection_are_served() -> None:
    with served(fake_machine()) as client, grpc.insecure_channel(client.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        reply = health.Check(health_pb2.HealthCheckRequest(service="hil.v1.Board"))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (listed,) = stub.ServerReflectionInfo(iter([request]))
        assert "hil.v1.Board" in {s.name for s in listed.list_services_response.service}


@contextmanager
def running(
    runner: FakeRunner, client: BoardClient, artifact: Artifact
) -> Iterator[list[HilError]]:
    """Measure in a thread with a runner that blocks; yields what the caller will get."""
    ended: list[HilError] = []

    def work() -> None:
        try:
            with client.lease("me") as session:
                session.measure(artifact, QUICK)
        except HilError as e:
            ended.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    assert runner.started.wait(10)
    try:
        yield ended
    finally:
        runner.gate.set()
        thread.join()


def test_a_second_run_is_refused_and_describe_still_answers(artifact: Artifact) -> None:
    runner = FakeRunner(blocking=True)
    with served(fake_machine(runner)) as client, running(runner, client, artifact):
        assert client.describe().state == "measuring"
        with pytest.raises(BoardBusy), client.lease("other"):
            pass


def test_one_run_at_a_time_also_for_the_holder(artifact: Artifact) -> None:
    runner = FakeRunner(blocking=True)
    with served(fake_machine(runner)) as client, client.lease("me") as session:
        thread = threading.Thread(target=lambda: _ignore(lambda: session.measure(artifact, QUICK)))
        thread.start()
        assert runner.started.wait(10)
        with pytest.raises(BoardBusy, match="a measurement is running"):
            session.profile(artifact)
        assert session.cancel()
        thread.join()


def _ignore(call: object) -> None:
    try:
        call()
    except HilError:
        return


def test_cancel_ends_the_measurement_with_its_reason(artifact: Artifact) -> None:
    runner = FakeRunner(blocking=True)
    with served(fake_machine(runner)) as client, client.lease("me") as session:
        threading.Thread(target=lambda: runner.started.wait(10) and session.cancel()).start()
        with pytest.raises(MeasurementFailed) as caught:
            session.measure(artifact, QUICK)
        assert caught.value.reason == "cancelled"
        runner.blocking = False
        assert session.measure(artifact, QUICK).verdict == "trusted"


def announce(stub: board_pb2_grpc.BoardStub, token: pb.LeaseToken, artifact: Artifact) -> None:
    """Name an artifact that is on the board under another lease."""
    blobs = [pb.Blob(digest=r.digest, size_bytes=r.size_bytes) for r in artifact.blobs()]
    stub.MissingBlobs(pb.MissingBlobsRequest(token=token, blobs=blobs))
    manifest = canonical_json(artifact.manifest).encode()
    stub.PutArtifact(pb.PutArtifactRequest(token=token, manifest_json=manifest))


def test_a_caller_that_leaves_ends_its_run(artifact: Artifact) -> None:
    runner = FakeRunner(blocking=True)
    with served(fake_machine(runner)) as client:
        with client.lease("me") as session:
            session.upload(artifact)
        stub = board_pb2_grpc.BoardStub(grpc.insecure_channel(client.address))
        lease = stub.Acquire(pb.AcquireRequest(holder="x", ttl_s=30, nonce="n"))
        announce(stub, lease.token, artifact)
        plan = pb.TimingPlan(runs=1, blocks=1)
        call = stub.Measure(
            pb.MeasureRequest(token=lease.token, artifact=artifact.digest, plan=plan)
        )
        assert runner.started.wait(10)
        call.cancel()
        assert runner.gate.wait(10)
        assert runner.cancelled


def test_a_crash_leaves_with_its_reason_and_the_daemon_lives(artifact: Artifact) -> None:
    runner = FakeRunner(fail=Crashed("the program died: SIGSEGV"))
    with served(fake_machine(runner)) as client, client.lease("me") as session:
        for run in (session.verify, session.profile, lambda a: session.measure(a, QUICK)):
            with pytest.raises(MeasurementFailed, match="SIGSEGV") as caught:
                run(artifact)
            assert caught.value.reason == "crash"
        runner.fail = None
        assert session.verify(artifact).layers


def test_an_under_volted_board_is_quarantined_and_says_why() -> None:
    probes = FakeProbes(Conditions(1, throttle_bits=UNDER_VOLTAGE))
    with served(fake_machine(probes=probes)) as client:
        assert client.describe().state == "quarantined"
        with pytest.raises(BoardBusy, match="under-voltage: use a 3 A supply"), client.lease("me"):
            pass


def test_a_full_disk_is_one_sentence_whatever_was_to_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with served(fake_machine()) as client:
        with client.lease("me") as session:
            monkeypatch.setattr("device_agent.quarantine.write_durably", full)
            with pytest.raises(BoardFull, match="disk is full: free some space there"):
                session.quarantine("it is hot")
        monkeypatch.setattr("device_agent.leases.write_durably", full)
        with pytest.raises(BoardFull, match="the board's disk is full"), client.lease("me"):
            pass
        monkeypatch.undo()
        with client.lease("me"):
            pass


def test_an_agent_that_cannot_write_its_state_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    assert run_agent(["--state", str(tmp_path / "state"), "--name", "x"]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/state: No space left on device; free some space there\n"
    )


def test_every_call_but_the_open_ones_needs_a_lease() -> None:
    with served(fake_machine()) as client, grpc.insecure_channel(client.address) as channel:
        stub = board_pb2_grpc.BoardStub(channel)
        calls = [
            lambda: stub.Renew(pb.RenewRequest()),
            lambda: stub.MissingBlobs(pb.MissingBlobsRequest()),
            lambda: stub.PutBlob(iter([pb.BlobChunk(data=b"x")])),
            lambda: stub.PutArtifact(pb.PutArtifactRequest()),
            lambda: stub.Verify(pb.VerifyRequest()),
            lambda: list(stub.Measure(pb.MeasureRequest(plan=pb.TimingPlan(runs=1, blocks=1)))),
            lambda: list(stub.Infer(iter([pb.InferRequest()]))),
            lambda: stub.Profile(pb.ProfileRequest()),
            lambda: stub.Cancel(pb.CancelRequest()),
        ]
        for call in calls:
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_public_address_without_tls_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_agent(["--bind", "0.0.0.0:0", "--state", str(tmp_path)]) == 2
    assert "--tls-cert" in capsys.readouterr().err


@contextmanager
def agent(state: Path) -> Iterator[tuple[subprocess.Popen[bytes], BoardClient]]:
    """Run the agent as its own process on this state folder."""
    command = [sys.executable, "-m", "device_agent", "--state", state, "--name", "agent"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    address = process.stdout.readline().decode().split()[-1]
    try:
        with BoardClient(address, deadline_s=5) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class TestKilled:
    def test_an_upload_resumes_after_the_agent_was_killed(
        self, tmp_path: Path, artifact: Artifact
    ) -> None:
        digest = artifact.manifest["library"]["digest"]
        data = artifact.read_blob(digest)
        with agent(tmp_path / "state") as (process, client):
            stub = board_pb2_grpc.BoardStub(grpc.insecure_channel(client.address))
            lease = stub.Acquire(pb.AcquireRequest(holder="x", ttl_s=30, nonce="n"))

            def half() -> Iterator[pb.BlobChunk]:
                blob = pb.Blob(digest=digest, size_bytes=len(data))
                yield pb.BlobChunk(token=lease.token, blob=blob, data=data[:500_000])
                yield pb.BlobChunk(data=data[500_000:600_000])
                partial = tmp_path / "state" / "partial" / digest
                while not partial.exists() or not partial.stat().st_size:
                    pass
                process.kill()
                process.wait()

            with pytest.raises(grpc.RpcError):
                stub.PutBlob(half())
        have = (tmp_path / "state" / "partial" / digest).stat().st_size
        assert 0 < have < len(data)
        with agent(tmp_path / "state") as (_, client), client.lease("y") as session:
            (missing,) = [m for m in session._missing(list(artifact.blobs())) if m[1]]
            assert missing[1] == have
            session.upload(artifact)
        assert (tmp_path / "state" / "blobs" / digest).read_bytes() == data

    @pytest.mark.tvm
    def test_a_measurement_ends_when_the_agent_is_killed_and_the_next_one_works(
        self, tmp_path: Path, plain: Artifact
    ) -> None:
        with agent(tmp_path / "state") as (process, client):

            def kill(progress: object) -> None:
                process.send_signal(signal.SIGKILL)

            slow = replace(QUICK, seconds=30, cap_s=30)
            with pytest.raises(BoardUnreachable), client.lease("x") as session:
                session.measure(plain, slow, on_progress=kill)
        with agent(tmp_path / "state") as (_, client), client.lease("y") as session:
            assert session._missing(list(plain.blobs())) == []
            assert session.measure(plain, QUICK).samples_ns

    def test_the_old_lease_is_worth_nothing_after_a_restart(self, tmp_path: Path) -> None:
        with agent(tmp_path / "state") as (_, client):
            stub = board_pb2_grpc.BoardStub(grpc.insecure_channel(client.address))
            old = stub.Acquire(pb.AcquireRequest(holder="x", ttl_s=30, nonce="n"))
        with agent(tmp_path / "state") as (_, client):
            stub = board_pb2_grpc.BoardStub(grpc.insecure_channel(client.address))
            with pytest.raises(grpc.RpcError):
                stub.Renew(pb.RenewRequest(token=old.token))
            new = stub.Acquire(pb.AcquireRequest(holder="x", ttl_s=30, nonce="n"))
            assert new.token.fence > old.token.fence


def test_the_lease_expiring_in_a_run_frees_the_board_for_the_next(artifact: Artifact) -> None:
    runner = FakeRunner(blocking=True)
    with served(fake_machine(runner)) as client:
        stub = board_pb2_grpc.BoardStub(grpc.insecure_channel(client.address))
        with client.lease("me") as session:
            session.upload(artifact)
        lease = stub.Acquire(pb.AcquireRequest(holder="x", ttl_s=1.0, nonce="n"))
        announce(stub, lease.token, artifact)
        plan = pb.TimingPlan(runs=1, blocks=1)
        call = stub.Measure(
            pb.MeasureRequest(token=lease.token, artifact=artifact.digest, plan=plan)
        )
        assert runner.started.wait(10)
        runner.started.clear()
        with client.lease("next", wait_s=5):
            assert runner.cancelled
        with pytest.raises(grpc.RpcError):
            list(call)


def test_a_lost_lease_is_said_so(artifact: Artifact) -> None:
    with served(fake_machine()) as client, client.lease("me") as session:
        session._stub.Release(pb.ReleaseRequest(token=session._token))
        with pytest.raises(LeaseLost, match="acquire the board again"):
            session.upload(artifact)
