"""Artifacts on the host's disk: a manifest and content-addressed blobs; never builds one.

An artifact directory holds `manifest.json` and `blobs/<sha256>`; docs/artifact.md is the format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.canonical import digest
from host.errors import ArtifactRejected

FORMAT = 2
# Bumped when the way the agent calls the entry function changes.
RUNTIME_ABI = 1


@dataclass(frozen=True, slots=True)
class BlobRef:
    """One blob of an artifact."""

    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Artifact:
    """A compiled program in a directory."""

    root: Path
    manifest: Mapping[str, Any]

    @classmethod
    def load(cls, root: Path) -> Artifact:
        """Read an artifact directory; raises ArtifactRejected where it is not one."""
        try:
            manifest = json.loads((root / "manifest.json").read_text())
        except FileNotFoundError as e:
            raise ArtifactRejected(f"{root} holds no manifest.json; it is not an artifact") from e
        except json.JSONDecodeError as e:
            raise ArtifactRejected(f"{root}/manifest.json is corrupt; build it again") from e
        if manifest.get("format") != FORMAT:
            raise ArtifactRejected(
                f"{root} has artifact format {manifest.get('format')!r}, "
                f"this version reads {FORMAT}; build it again"
            )
        return cls(root, manifest)

    @property
    def digest(self) -> str:
        """Identity of the program: weights, kernels and golden output included."""
        return digest(self.manifest)

    @property
    def size_bytes(self) -> int:
        """Bytes of all packed weights, scales and tables (not of the kernels)."""
        return sum(int(w["bytes"]) for w in self.manifest["weights"])

    def blobs(self, *, weights: bool = True) -> Iterator[BlobRef]:
        """Yield the blobs to ship; a latency-only measurement ships the library alone."""
        library = self.manifest["library"]
        yield BlobRef(library["digest"], int(library["bytes"]))
        if not weights:
            return
        seen = set()
        golden = [self.manifest["golden"]] if self.manifest["golden"] else []
        for ref in [*self.manifest["weights"], *golden]:
            if ref["digest"] is None:
                raise ArtifactRejected(f"{self.root} holds no weights: it serves latency alone")
            if ref["digest"] not in seen:
                seen.add(ref["digest"])
                yield BlobRef(ref["digest"], int(ref["bytes"]))

    def read_blob(self, blob_digest: str) -> bytes:
        """Return a blob's bytes; raises ArtifactRejected when they are missing or corrupt."""
        try:
            data = (self.root / "blobs" / blob_digest).read_bytes()
        except FileNotFoundError as e:
            raise ArtifactRejected(
                f"{self.root} lacks blob {blob_digest[:12]}; build it again"
            ) from e
        if hashlib.sha256(data).hexdigest() != blob_digest:
            raise ArtifactRejected(
                f"{self.root}: blob {blob_digest[:12]} is corrupt; build it again"
            )
        return data
