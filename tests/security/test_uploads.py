"""Uploads that mean harm: paths for digests, too many bytes, too few, and bytes that changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from device_agent.server import ServerOptions, make_server
from host.artifact import Artifact
from host.boards.client import BoardClient
from host.boards.protocol import QUICK
from protos import board_pb2 as pb
from protos import board_pb2_grpc
from tests.contracts.support import fake_machine, plain_artifact

BUDGET_BYTES = 4 << 20
PATHS = (
    "../../../etc/passwd", "../fence", "..", ".", "", "/etc/passwd", "a" * 63, "A" * 64,
    "a" * 64 + "\n", "a" * 62 + "/x", "a" * 64 + "\0", "%2e%2e%2f" + "a" * 55,
)  # fmt: skip


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "lab" / "state"


@pytest.fixture
def board(state: Path) -> Iterator[BoardClient]:
    options = ServerOptions(budget_bytes=BUDGET_BYTES)
    server, port = make_server(fake_machine(), state, options)
    server.start()
    with BoardClient(f"127.0.0.1:{port}") as client:
        yield client
    server.stop(None).wait()


@pytest.fixture
def stub(board: BoardClient) -> Iterator[Any]:
    with grpc.insecure_channel(board.address) as channel:
        yield board_pb2_grpc.BoardStub(channel)


@pytest.fixture
def token(stub: Any) -> Any:
    return stub.Acquire(pb.AcquireRequest(holder="x", ttl_s=30, nonce="n")).token


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def send(stub: Any, token: Any, digest: str, size: int, *parts: bytes, offset: int = 0) -> Any:
    blob = pb.Blob(digest=digest, size_bytes=size)
    first = pb.BlobChunk(token=token, blob=blob, offset_bytes=offset, data=parts[0])
    return stub.PutBlob(iter([first, *(pb.BlobChunk(data=part) for part in parts[1:])]))


def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code: grpc.StatusCode = caught.value.code()
    return code


@pytest.mark.parametrize("path", PATHS)
class TestPaths:
    def test_no_upload_leaves_the_store(
        self, path: str, stub: Any, token: Any, state: Path, tmp_path: Path
    ) -> None:
        before = tree(tmp_path)
        refused = code_of(lambda: send(stub, token, path, 4, b"evil"))
        assert refused is grpc.StatusCode.INVALID_ARGUMENT
        assert tree(tmp_path) == before

    def test_no_question_does(self, path: str, stub: Any, token: Any) -> None:
        request = pb.MissingBlobsRequest(token=token, blobs=[pb.Blob(digest=path)])
        assert code_of(lambda: stub.MissingBlobs(request)) is grpc.StatusCode.INVALID_ARGUMENT

    def test_no_run_does(self, path: str, stub: Any, token: Any) -> None:
        request = pb.VerifyRequest(token=token, artifact=path)
        assert code_of(lambda: stub.Verify(request)) is grpc.StatusCode.INVALID_ARGUMENT

    def test_no_manifest_does(self, path: str, stub: Any, token: Any, tmp_path: Path) -> None:
        for spoil in ("library", "weights", "golden"):
            manifest = json.loads(json.dumps(plain_artifact(tmp_path / spoil, b"x").manifest))
            row = manifest["weights"][0] if spoil == "weights" else manifest[spoil]
            row["digest"] = path
            text = json.dumps(manifest).encode()
            request = pb.PutArtifactRequest(token=token, manifest_json=text)
            assert code_of(lambda r=request: stub.PutArtifact(r)) is (
                grpc.StatusCode.INVALID_ARGUMENT
            )


class TestSizes:
    def test_more_bytes_than_announced_are_refused(
        self, stub: Any, token: Any, state: Path
    ) -> None:
        data = b"x" * 1000
        digest = hashlib.sha256(data).hexdigest()
        refused = code_of(lambda: send(stub, token, digest, 600, data[:500], data[500:]))
        assert refused is grpc.StatusCode.INVALID_ARGUMENT
        assert not (state / "blobs" / digest).exists()
        assert (state / "partial" / digest).stat().st_size <= 600

    def test_fewer_bytes_make_no_blob_and_are_resumed(
        self, stub: Any, token: Any, state: Path
    ) -> None:
        data = b"y" * 1000
        digest = hashlib.sha256(data).hexdigest()
        assert send(stub, token, digest, 1000, data[:400]).have_bytes == 400
        assert not (state / "blobs" / digest).exists()
        assert send(stub, token, digest, 1000, data[400:], offset=400).have_bytes == 1000
        assert (state / "blobs" / digest).read_bytes() == data

    def test_what_never_fits_evicts_nothing(self, stub: Any, token: Any, state: Path) -> None:
        data = b"z" * 1000
        kept = hashlib.sha256(data).hexdigest()
        send(stub, token, kept, 1000, data)
        for size in (BUDGET_BYTES + 1, 1 << 62, (1 << 64) - 1):
            refused = code_of(lambda s=size: send(stub, token, "a" * 64, s, b"x"))
            assert refused is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (state / "blobs" / kept).exists()

    def test_other_bytes_than_the_digest_are_dropped(
        self, stub: Any, token: Any, state: Path
    ) -> None:
        assert code_of(lambda: send(stub, token, "b" * 64, 4, b"evil")) is grpc.StatusCode.DATA_LOSS
        assert tree(state) == {"blobs", "partial", "artifacts", "fence"}

    @pytest.mark.parametrize(
        "text",
        [b"[" * 100_000, b"{}", b"[]", b"null", b"\xff", b'{"library": 3}', b" " * (17 << 20)],
    )
    def test_a_malformed_manifest_is_refused(self, text: bytes, stub: Any, token: Any) -> None:
        request = pb.PutArtifactRequest(token=token, manifest_json=text)
        assert code_of(lambda: stub.PutArtifact(request)) is grpc.StatusCode.INVALID_ARGUMENT
        assert stub.Describe(pb.DescribeRequest()).name == "fake"


def test_a_library_that_changed_on_the_disk_is_not_run(
    board: BoardClient, state: Path, library: bytes, tmp_path: Path
) -> None:
    artifact: Artifact = plain_artifact(tmp_path / "artifact", library)
    path = state / "blobs" / artifact.manifest["library"]["digest"]
    with board.lease("me") as session, pytest.MonkeyPatch.context() as patch:
        session.upload(artifact)
        path.chmod(0o600)
        path.write_bytes(library[:-1] + b"!")
        patch.setattr(session, "upload", lambda *_, **__: None)
        with pytest.raises(Exception, match="has changed on the board"):
            session.measure(artifact, QUICK)
        patch.undo()
        assert session.measure(artifact, QUICK).samples_ns


def test_an_upload_ends_with_its_lease(stub: Any, board: BoardClient) -> None:
    """One that stalls holds the store no longer than the lease, once it goes on."""
    lease = stub.Acquire(pb.AcquireRequest(holder="x", ttl_s=0.3, nonce="n"))

    def chunks() -> Iterator[pb.BlobChunk]:
        blob = pb.Blob(digest="c" * 64, size_bytes=1000)
        yield pb.BlobChunk(token=lease.token, blob=blob, data=b"x")
        while board.describe().state == "leased":
            continue
        yield pb.BlobChunk(data=b"y")

    assert code_of(lambda: stub.PutBlob(chunks())) is grpc.StatusCode.PERMISSION_DENIED
