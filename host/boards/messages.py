"""Messages of a session that travel in pieces: blobs and samples; sends nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from host.artifact import Artifact, BlobRef
from protos import board_pb2 as pb

CHUNK_BYTES = 1 << 20


def blob_chunks(token: Any, ref: BlobRef, data: bytes, offset: int) -> Iterator[Any]:
    """Yield what is left of a blob from an offset; the first chunk says what it is."""
    blob = pb.Blob(digest=ref.digest, size_bytes=len(data))
    first = data[offset : offset + CHUNK_BYTES]
    yield pb.BlobChunk(token=token, blob=blob, offset_bytes=offset, data=first)
    for start in range(offset + CHUNK_BYTES, len(data), CHUNK_BYTES):
        yield pb.BlobChunk(data=data[start : start + CHUNK_BYTES])


def infer_requests(
    artifact: Artifact, samples: np.ndarray, fields: Mapping[str, Any]
) -> Iterator[Any]:
    """Yield samples (n, ...) in whole batches of about a chunk; `fields` are the run's."""
    batch = int(artifact.manifest["inputs"][0]["shape"][0])
    per_chunk = max(1, CHUNK_BYTES // max(1, samples[:batch].nbytes)) * batch
    # What a run says of memory is no field of these.
    own = {key: fields[key] for key in ("token", "artifact", "deadline_s")}
    for start in range(0, len(samples), per_chunk):
        part = np.ascontiguousarray(samples[start : start + per_chunk])
        tensor = pb.Tensor(dtype=part.dtype.name, shape=part.shape, data=part.tobytes())
        yield pb.InferRequest(samples=tensor, **own)
