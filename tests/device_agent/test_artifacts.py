"""Blobs on disk: verified, resumed, evicted by a budget, and clear about a full disk."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent import artifacts
from device_agent.artifacts import ArtifactStore, BlobStore, check_digest
from device_agent.errors import Busy, CorruptBlob, DiskFull, Missing, Rejected


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(store: BlobStore, data: bytes) -> str:
    store.put(sha(data), len(data), 0, [data])
    return sha(data)


def test_a_blob_exists_only_when_complete(tmp_path: Path) -> None:
    store, data = BlobStore(tmp_path), b"abcdef"
    assert store.put(sha(data), 6, 0, [b"abc"]) == 3
    assert sha(data) not in store
    assert store.missing([sha(data)]) == {sha(data): 3}
    assert store.put(sha(data), 6, 3, [b"def"]) == 6
    assert store.path(sha(data)).read_bytes() == data
    assert store.missing([sha(data)]) == {}


@settings(deadline=None, max_examples=40)
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_an_upload_cut_anywhere_and_resumed_is_the_same_blob(data: bytes, cuts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for start, end in itertools.pairwise([0, *sorted(min(c, len(data)) for c in cuts), None]):
            store = BlobStore(Path(folder), sync=lambda _: None)  # as after a restart
            have = store.missing([sha(data)]).get(sha(data), len(data))
            assert have == start or sha(data) in store
            store.put(sha(data), len(data), have, [data[have:end]])
        assert store.path(sha(data)).read_bytes() == data


def test_corrupt_bytes_are_dropped_and_said_so(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    with pytest.raises(CorruptBlob, match="send it again"):
        store.put(sha(b"right"), 5, 0, [b"wrong"])
    assert store.missing([sha(b"right")]) == {sha(b"right"): 0}
    put(store, b"right")


def test_a_wrong_offset_is_refused_with_the_right_one(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.put(sha(b"abcdef"), 6, 0, [b"abc"])
    with pytest.raises(Rejected, match="at 3, not 0"):
        store.put(sha(b"abcdef"), 6, 0, [b"abcdef"])


def test_more_bytes_than_announced_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="more bytes"):
        BlobStore(tmp_path).put(sha(b"ab"), 2, 0, [b"abc"])


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63])
def test_what_is_no_digest_never_becomes_a_path(digest: str) -> None:
    with pytest.raises(Rejected):
        check_digest(digest)


def test_the_least_recently_used_blob_goes_first(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, budget_bytes=300)
    first, second = put(store, b"1" * 100), put(store, b"2" * 100)
    os.utime(store.folder / second, (1, 1))
    store.path(first)
    put(store, b"3" * 150)
    assert first in store and second not in store


def test_pinned_blobs_are_never_evicted(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, budget_bytes=200)
    pinned = put(store, b"1" * 150)
    store.pin([pinned])
    with pytest.raises(DiskFull, match="no room for 100 bytes"):
        put(store, b"2" * 100)
    store.pin([])
    put(store, b"2" * 100)
    assert pinned not in store


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_clear_error_and_the_upload_resumes(tmp_path: Path, number: int) -> None:
    def full(_: int) -> None:
        raise OSError(number, "full")

    data = b"x" * 100
    with pytest.raises(DiskFull, match="disk is full"):
        BlobStore(tmp_path, sync=full).put(sha(data), 100, 0, [data])
    store = BlobStore(tmp_path)
    have = store.missing([sha(data)])[sha(data)]
    store.put(sha(data), 100, have, [data[have:]])
    assert sha(data) in store


def test_another_disk_error_is_not_called_full(tmp_path: Path) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"):
        BlobStore(tmp_path, sync=broken).put(sha(b"x"), 1, 0, [b"x"])


def test_a_malformed_manifest_is_refused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path, BlobStore(tmp_path))
    for text in (b"not json", b"[]", b"{}", b'{"golden": null, "library": {"digest": "x"}}'):
        with pytest.raises(Rejected):
            store.put(text, lambda _: None)


def test_a_manifest_without_its_library_is_refused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path, BlobStore(tmp_path))
    text = b'{"golden":null,"library":{"digest":"%s"},"weights":[]}' % (b"0" * 64)
    with pytest.raises(Missing, match="upload it"):
        store.put(text, lambda _: None)


def test_an_artifact_without_weights_serves_latency_alone(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path, BlobStore(tmp_path))
    put(store.blobs, b"library")
    library = {"digest": sha(b"library")}
    manifest = {"golden": None, "library": library, "weights": [{"digest": None}]}
    assert store.put(json.dumps(manifest).encode(), lambda _: None)
    store.require(manifest, weights=False)
    with pytest.raises(Rejected, match="build it whole"):
        store.require(manifest, weights=True)


def test_a_stalled_upload_makes_the_next_one_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "UPLOAD_WAIT_S", 0.05)
    store = BlobStore(tmp_path)

    def stalled() -> Iterator[bytes]:
        with pytest.raises(Busy, match="still running"):
            put(store, b"other")
        yield b"slow"

    store.put(sha(b"slow"), 4, 0, stalled())
    assert sha(b"slow") in store


def test_old_manifests_are_forgotten_once_they_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "MANIFESTS_BYTES", 2500)
    store = ArtifactStore(tmp_path, BlobStore(tmp_path))
    library = hashlib.sha256(b"x").hexdigest()
    store.blobs.put(library, 1, 0, [b"x"])
    manifest = {"library": {"digest": library}, "weights": [], "golden": None}
    digests = [
        store.put(json.dumps({**manifest, "n": n, "pad": "x" * 1000}).encode(), lambda m: None)
        for n in range(4)
    ]
    kept = {path.name for path in (tmp_path / "artifacts").iterdir()}
    assert digests[-1] in kept and digests[0] not in kept and len(kept) == 2
