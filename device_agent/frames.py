"""Frames between the daemon and its child: a length, JSON, then arrays as .npy; never a pickle."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

_LENGTH = struct.Struct(">II")


@dataclass(frozen=True)
class Frame:
    """One message: a JSON object and arrays."""

    header: Mapping[str, Any]
    arrays: tuple[np.ndarray, ...] = ()

    @property
    def kind(self) -> str:
        """What the message is."""
        return str(self.header["kind"])


def write_frame(
    stream: IO[bytes], header: Mapping[str, Any], arrays: Sequence[np.ndarray] = ()
) -> None:
    """Write one frame and flush it."""
    text = json.dumps({**header, "arrays": len(arrays)}).encode()
    body = io.BytesIO()
    for array in arrays:
        np.save(body, array, allow_pickle=False)
    stream.write(_LENGTH.pack(len(text), body.tell()) + text)
    stream.write(body.getbuffer())
    stream.flush()


def read_frame(stream: IO[bytes]) -> Frame | None:
    """Read one frame; None where the stream ends, also in the middle of a frame."""
    lengths = stream.read(_LENGTH.size)
    if len(lengths) < _LENGTH.size:
        return None
    text_bytes, body_bytes = _LENGTH.unpack(lengths)
    text, body = stream.read(text_bytes), stream.read(body_bytes)
    if len(text) < text_bytes or len(body) < body_bytes:
        return None
    header = json.loads(text)
    source = io.BytesIO(body)
    arrays = tuple(np.load(source, allow_pickle=False) for _ in range(header.pop("arrays")))
    return Frame(header, arrays)
