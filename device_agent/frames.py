"""Frames between the daemon and its child: a length, JSON, then arrays as .npy; never a pickle.

The child runs code that somebody sent, so a frame is not trusted: it has a largest size, and what
is malformed raises BadFrame.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

MAX_HEADER_BYTES = 32 << 20
MAX_BODY_BYTES = 256 << 20
_LENGTH = struct.Struct(">II")


class BadFrame(Exception):
    """What came is no frame."""


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
    """Read one frame; None where the stream ends, also in the middle of a frame.

    Raises BadFrame for anything but a frame.
    """
    lengths = stream.read(_LENGTH.size)
    if len(lengths) < _LENGTH.size:
        return None
    text_bytes, body_bytes = _LENGTH.unpack(lengths)
    if text_bytes > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES:
        raise BadFrame(f"a frame of {text_bytes} + {body_bytes} bytes")
    text, body = stream.read(text_bytes), stream.read(body_bytes)
    if len(text) < text_bytes or len(body) < body_bytes:
        return None
    try:
        header = json.loads(text)
        arrays = _arrays(body, int(header.pop("arrays")))
        return Frame({**header, "kind": header["kind"]}, arrays)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as e:
        raise BadFrame(f"a malformed frame: {type(e).__name__}") from e


def _arrays(body: bytes, count: int) -> tuple[np.ndarray, ...]:
    source = io.BytesIO(body)
    return tuple(_array(source) for _ in range(count))


def _array(source: IO[bytes]) -> np.ndarray:
    """Read one array by hand: numpy's reader makes room for whatever shape a header claims."""
    version = np.lib.format.read_magic(source)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, fortran, dtype = read(source)
    if any(length < 0 for length in shape):
        raise ValueError(f"an array of shape {shape}")
    data = source.read(dtype.itemsize * math.prod(shape))
    return np.ndarray(shape, dtype, data, order="F" if fortran else "C").copy()
