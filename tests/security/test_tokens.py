"""Tokens: worth nothing once the lease is over, and shown to nobody."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from device_agent.leases import Leases
from hil_lab.inventory import served
from host.artifact import Artifact
from host.boards.client import BoardClient
from host.boards.protocol import QUICK
from host.boards.types import Lease
from host.canonical import canonical_json
from host.errors import HilError
from protos import board_pb2 as pb
from protos import board_pb2_grpc
from tests.contracts.support import FakeRunner, fake_machine, plain_artifact

PLAN = pb.TimingPlan(runs=1, blocks=1)
# Everything that a token opens, by what is done with it.
CALLS: dict[str, Callable[[Any, Any], object]] = {
    "renew": lambda stub, token: stub.Renew(pb.RenewRequest(token=token)),
    "ask": lambda stub, token: stub.MissingBlobs(pb.MissingBlobsRequest(token=token)),
    "send": lambda stub, token: stub.PutBlob(iter([pb.BlobChunk(token=token)])),
    "register": lambda stub, token: stub.PutArtifact(pb.PutArtifactRequest(token=token)),
    "verify": lambda stub, token: stub.Verify(pb.VerifyRequest(token=token)),
    "measure": lambda stub, token: list(stub.Measure(pb.MeasureRequest(token=token, plan=PLAN))),
    "infer": lambda stub, token: list(stub.Infer(iter([pb.InferRequest(token=token)]))),
    "profile": lambda stub, token: stub.Profile(pb.ProfileRequest(token=token)),
    "cancel": lambda stub, token: stub.Cancel(pb.CancelRequest(token=token)),
    "release": lambda stub, token: stub.Release(pb.ReleaseRequest(token=token)),
}


@pytest.fixture
def board() -> Iterator[BoardClient]:
    with served(fake_machine()) as client:
        yield client


@pytest.fixture
def stub(board: BoardClient) -> Iterator[Any]:
    with grpc.insecure_channel(board.address) as channel:
        yield board_pb2_grpc.BoardStub(channel)


def acquired(stub: Any, nonce: str, ttl_s: float = 30.0) -> Any:
    return stub.Acquire(pb.AcquireRequest(holder="x", ttl_s=ttl_s, nonce=nonce)).token


def refused(call: Callable[[], object], code: grpc.StatusCode) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is code
    return str(caught.value.details())


@pytest.mark.parametrize("name", CALLS)
class TestReplayed:
    def test_after_release(self, name: str, stub: Any) -> None:
        old = acquired(stub, "a")
        stub.Release(pb.ReleaseRequest(token=old))
        refused(lambda: CALLS[name](stub, old), grpc.StatusCode.PERMISSION_DENIED)

    def test_after_it_expired(self, name: str, stub: Any) -> None:
        old = acquired(stub, "a", ttl_s=0.05)
        new = acquired_when_free(stub)
        refused(lambda: CALLS[name](stub, old), grpc.StatusCode.PERMISSION_DENIED)
        assert stub.Renew(pb.RenewRequest(token=new)).token.fence > old.fence

    def test_with_the_fence_of_the_present_lease(self, name: str, stub: Any) -> None:
        old = acquired(stub, "a")
        stub.Release(pb.ReleaseRequest(token=old))
        new = acquired(stub, "b")
        forged = pb.LeaseToken(fence=new.fence, secret=old.secret)
        why = refused(lambda: CALLS[name](stub, forged), grpc.StatusCode.PERMISSION_DENIED)
        assert new.secret not in why and old.secret not in why


def acquired_when_free(stub: Any) -> Any:
    while True:
        try:
            return acquired(stub, "b")
        except grpc.RpcError as e:
            assert e.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


class TestUnannounced:
    @pytest.fixture
    def artifact(self, library: bytes, tmp_path: Path) -> Artifact:
        return plain_artifact(tmp_path / "artifact", library)

    def runs(self, stub: Any, token: Any, artifact: Artifact) -> list[Callable[[], object]]:
        named = {"token": token, "artifact": artifact.digest}
        return [
            lambda: stub.Verify(pb.VerifyRequest(**named)),
            lambda: stub.Profile(pb.ProfileRequest(**named)),
            lambda: list(stub.Measure(pb.MeasureRequest(plan=PLAN, **named))),
            lambda: list(stub.Infer(iter([pb.InferRequest(**named)]))),
        ]

    def test_what_another_holder_left_is_not_run(
        self, board: BoardClient, stub: Any, artifact: Artifact
    ) -> None:
        with board.lease("first") as session:
            session.upload(artifact)
        token = acquired(stub, "second")
        for run in self.runs(stub, token, artifact):
            assert "not announced" in refused(run, grpc.StatusCode.NOT_FOUND)

    def test_a_manifest_does_not_announce_its_library(
        self, board: BoardClient, stub: Any, artifact: Artifact
    ) -> None:
        with board.lease("first") as session:
            session.upload(artifact)
        request = pb.PutArtifactRequest(
            token=acquired(stub, "second"),
            manifest_json=canonical_json(artifact.manifest).encode(),
        )
        refused(lambda: stub.PutArtifact(request), grpc.StatusCode.NOT_FOUND)

    def test_a_weight_that_was_not_named_is_not_read(
        self, board: BoardClient, stub: Any, artifact: Artifact
    ) -> None:
        with board.lease("first") as session:
            session.upload(artifact)
        token = acquired(stub, "second")
        library = pb.Blob(digest=artifact.manifest["library"]["digest"])
        stub.MissingBlobs(pb.MissingBlobsRequest(token=token, blobs=[library]))
        manifest = canonical_json(artifact.manifest).encode()
        stub.PutArtifact(pb.PutArtifactRequest(token=token, manifest_json=manifest))
        run = self.runs(stub, token, artifact)[0]
        assert "not announced" in refused(run, grpc.StatusCode.NOT_FOUND)

    def test_what_is_announced_again_need_not_travel_again(
        self, board: BoardClient, artifact: Artifact
    ) -> None:
        with board.lease("first") as session:
            session.upload(artifact)
        with board.lease("second") as session:
            assert session._missing(list(artifact.blobs())) == []
            assert session.measure(artifact, QUICK).samples_ns


class TestSecrets:
    def test_a_value_that_holds_one_does_not_show_it(self, tmp_path: Path) -> None:
        ours = Lease(1, "hush", 3.0)
        theirs = Leases(tmp_path / "fence").acquire("me", 3.0, "")
        assert "hush" not in repr(ours) and "fence=1" in repr(ours)
        assert theirs.secret not in f"{theirs!r} {theirs}"

    def test_no_log_and_no_error_shows_one(
        self, caplog: pytest.LogCaptureFixture, library: bytes, tmp_path: Path
    ) -> None:
        caplog.set_level(logging.DEBUG)
        said: list[str] = []
        runner = FakeRunner(fail=RuntimeError("the runner is broken"))
        artifact = plain_artifact(tmp_path / "artifact", library)
        with served(fake_machine(runner)) as board, board.lease("me") as session:
            secret = session._token.secret
            said.append(repr(session))
            for call in (lambda: session.verify(artifact), lambda: board.lease("b").__enter__()):
                with pytest.raises(HilError) as caught:
                    call()
                said.append(repr(caught.value) + repr(caught.value.__cause__))
        assert "the runner is broken" in caplog.text
        assert secret and secret not in caplog.text + "".join(said)
