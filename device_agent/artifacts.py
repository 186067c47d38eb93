"""Content-addressed blobs and manifests on disk: atomic, verified, evicted by a byte budget.

A blob exists when its file exists: bytes go to a partial file, are checked against the digest,
synced and only then renamed. Never runs anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from device_agent.errors import Busy, CorruptBlob, DiskFull, Missing, Rejected

DEFAULT_BUDGET_BYTES = 2 << 30
UPLOAD_WAIT_S = 15.0
MAX_MANIFEST_BYTES = 16 << 20
MANIFESTS_BYTES = 256 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")
Sync = Callable[[int], None]


def check_digest(digest: str) -> str:
    """Return a sha256 in hex; raises Rejected for anything else, so that it is safe in a path."""
    if not _DIGEST.fullmatch(digest):
        raise Rejected(f"{digest[:80]!r} is not a sha256 digest")
    return digest


class BlobStore:
    """Blobs by digest under `root`; `sync` makes an open file durable (os.fsync)."""

    def __init__(
        self, root: Path, budget_bytes: int = DEFAULT_BUDGET_BYTES, sync: Sync = os.fsync
    ) -> None:
        self.folder = root / "blobs"
        self._partial = root / "partial"
        self._budget_bytes = budget_bytes
        self._sync = sync
        self._lock = threading.Lock()
        self._pinned: set[str] = set()
        for folder in (self.folder, self._partial):
            folder.mkdir(parents=True, exist_ok=True)

    def __contains__(self, digest: str) -> bool:
        return (self.folder / check_digest(digest)).exists()

    def missing(self, digests: Iterable[str]) -> dict[str, int]:
        """Return the digests that are not here, with the bytes of their interrupted uploads."""
        return {d: self._have(d) for d in digests if d not in self}

    def path(self, digest: str) -> Path:
        """Return where a blob lies and mark it as used; raises Missing."""
        path = self.folder / check_digest(digest)
        try:
            os.utime(path)
        except FileNotFoundError as e:
            raise Missing(f"blob {digest[:12]} is not on the board: upload it") from e
        return path

    def check(self, digest: str) -> None:
        """Read a blob's bytes again; raises CorruptBlob, and drops it, where they have changed."""
        path = self.path(digest)
        if _sha256(path) != digest:
            path.unlink(missing_ok=True)
            raise CorruptBlob(f"blob {digest[:12]} has changed on the board: send it again")

    def pin(self, digests: Iterable[str]) -> None:
        """Never evict these, the blobs of the artifact in use; what was pinned before may go."""
        self._pinned = set(digests)

    def put(self, digest: str, size_bytes: int, offset: int, chunks: Iterable[bytes]) -> int:
        """Append chunks to a blob at `offset` and return the bytes it has; complete, it exists.

        Raises CorruptBlob when the complete bytes have another digest (they are dropped), Rejected
        for a wrong offset or size, DiskFull when there is no room.
        """
        with self._writing(), _no_room_is_disk_full(digest):
            if digest in self:
                return size_bytes
            partial = self._partial / digest
            if offset != self._have(digest):
                raise Rejected(f"resume blob {digest[:12]} at {self._have(digest)}, not {offset}")
            self._make_room(size_bytes - offset, digest)
            with partial.open("ab") as file:
                have = self._append(file, offset, size_bytes, chunks)
                file.flush()
                self._sync(file.fileno())
            if have == size_bytes:
                self._finish(partial, digest)
            return have

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One upload at a time; a caller that stalls in the middle of one cannot block for ever."""
        if not self._lock.acquire(timeout=UPLOAD_WAIT_S):
            raise Busy(f"another upload was still running after {UPLOAD_WAIT_S:g} s")
        try:
            yield
        finally:
            self._lock.release()

    def _append(self, file: IO[bytes], have: int, size_bytes: int, chunks: Iterable[bytes]) -> int:
        for chunk in chunks:
            have += len(chunk)
            if have > size_bytes:
                raise Rejected(f"more bytes than the announced {size_bytes}")
            file.write(chunk)
        return have

    def _finish(self, partial: Path, digest: str) -> None:
        actual = _sha256(partial)
        if actual != digest:
            partial.unlink()
            raise CorruptBlob(f"blob {digest[:12]} arrived as {actual[:12]}: send it again")
        partial.chmod(0o444)  # read by programs that run as another user, written by none
        partial.rename(self.folder / digest)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            self._sync(folder)
        finally:
            os.close(folder)

    def _have(self, digest: str) -> int:
        try:
            return (self._partial / check_digest(digest)).stat().st_size
        except FileNotFoundError:
            return 0

    def _make_room(self, need_bytes: int, keep: str) -> None:
        """Evict least recently used files until `need_bytes` more fit in the budget."""
        if need_bytes > self._budget_bytes:  # nothing is evicted for what never fits
            raise self._full(need_bytes)
        files = sorted(self._files(), key=lambda f: f.stat().st_mtime_ns)
        used = sum(f.stat().st_size for f in files)
        for file in files:
            if used + need_bytes <= self._budget_bytes:
                return
            if file.name not in self._pinned and file.name != keep:
                used -= file.stat().st_size
                file.unlink()
        if used + need_bytes > self._budget_bytes:
            raise self._full(need_bytes)

    def _full(self, need_bytes: int) -> DiskFull:
        return DiskFull(
            f"no room for {need_bytes} bytes among the {self._budget_bytes} that the agent keeps: "
            "start it with a larger --keep-mb"
        )

    def _files(self) -> Iterator[Path]:
        yield from self.folder.iterdir()
        yield from self._partial.iterdir()


class ArtifactStore:
    """Manifests by digest, and which blobs each one needs."""

    def __init__(self, root: Path, blobs: BlobStore) -> None:
        self._folder = root / "artifacts"
        self._folder.mkdir(parents=True, exist_ok=True)
        self.blobs = blobs

    def put(self, manifest_json: bytes, check: Callable[[Mapping[str, Any]], None]) -> str:
        """Register a manifest that passes `check` and whose library is here; return its digest."""
        if len(manifest_json) > MAX_MANIFEST_BYTES:
            raise Rejected(
                f"a manifest of {len(manifest_json)} bytes, at most {MAX_MANIFEST_BYTES}"
            )
        manifest = _parse(manifest_json)
        check(manifest)
        self.blobs.path(manifest["library"]["digest"])
        self.blobs.pin(blob_digests(manifest))
        digest = hashlib.sha256(manifest_json).hexdigest()
        temporary = self._folder / f"{digest}.new"
        with _no_room_is_disk_full(digest):
            temporary.write_bytes(manifest_json)
            temporary.rename(self._folder / digest)
        self._forget_old()
        return digest

    def _forget_old(self) -> None:
        """Keep the newest manifests that fit; whoever runs an older one sends it again."""
        files = sorted(self._folder.iterdir(), key=lambda f: f.stat().st_mtime_ns, reverse=True)
        up_to_bytes = 0
        for file in files:
            up_to_bytes += file.stat().st_size
            if up_to_bytes > MANIFESTS_BYTES:
                file.unlink()

    def manifest(self, digest: str) -> Mapping[str, Any]:
        """Return a registered manifest; raises Missing."""
        try:
            data = (self._folder / check_digest(digest)).read_bytes()
        except FileNotFoundError as e:
            raise Missing(f"artifact {digest[:12]} is not on the board: upload it") from e
        return _parse(data)

    def require(self, manifest: Mapping[str, Any], *, weights: bool) -> list[str]:
        """Return the digests of the blobs that a run needs; raises Missing where one is not here.

        The library is code: its bytes are checked again.
        """
        if weights and any(row["digest"] is None for row in manifest["weights"]):
            raise Rejected("the artifact holds no weights, it serves latency alone: build it whole")
        library = manifest["library"]["digest"]
        digests = blob_digests(manifest) if weights else [library]
        for digest in digests:
            self.blobs.path(digest)
        self.blobs.check(library)
        return digests


def blob_digests(manifest: Mapping[str, Any]) -> list[str]:
    """Return the digests of all blobs that a manifest names; weights may be left out (null)."""
    golden = [manifest["golden"]] if manifest["golden"] else []
    weights = [row for row in manifest["weights"] if row["digest"] is not None]
    return [ref["digest"] for ref in (manifest["library"], *weights, *golden)]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse(manifest_json: bytes) -> Mapping[str, Any]:
    try:
        manifest: Mapping[str, Any] = json.loads(manifest_json)
        for digest in blob_digests(manifest):
            check_digest(digest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise Rejected(f"the manifest is malformed ({e!r}): build the artifact again") from e
    return manifest


@contextmanager
def _no_room_is_disk_full(digest: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise DiskFull.of(e, f"writing {digest[:12]}") from e
