"""Frames: what goes in comes out, and what is no frame is said to be none."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from device_agent.frames import MAX_BODY_BYTES, MAX_HEADER_BYTES, BadFrame, read_frame, write_frame

ARRAYS = of_numpy.arrays(
    st.sampled_from([np.dtype(t) for t in ("float32", "int8", "uint8", "int64", "bool")]),
    of_numpy.array_shapes(min_dims=0, min_side=0, max_side=4),
)


def frame(text: bytes, body: bytes = b"") -> io.BytesIO:
    return io.BytesIO(struct.pack(">II", len(text), len(body)) + text + body)


@given(st.lists(ARRAYS, max_size=3), st.booleans())
def test_what_goes_in_comes_out(arrays: list[np.ndarray], fortran: bool) -> None:
    stream = io.BytesIO()
    sent = [np.asfortranarray(a) if fortran else a for a in arrays]
    write_frame(stream, {"kind": "output"}, sent)
    stream.seek(0)
    received = read_frame(stream)
    assert received and received.kind == "output"
    for one, other in zip(received.arrays, arrays, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def npy(text: str) -> bytes:
    """Return the head of an array that numpy's format describes by a text."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def shaped(dtype: str, shape: str) -> bytes:
    return npy(f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}}}\n")


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"arrays": 0}',
        b'{"arrays": "x", "kind": "k"}',
    ],
)  # fmt: skip
def test_a_header_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(BadFrame):
        read_frame(frame(text))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80\x04K\x01.",  # a pickle
        shaped("|O", "(1,)"),
        shaped("<f8", "(9999999999999,)"),
        shaped("<f8", "(-1,)"),
        npy("__import__('os')\n"),
    ],
)
def test_an_array_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(BadFrame):
        read_frame(frame(b'{"arrays": 1, "kind": "k"}', body))


@pytest.mark.parametrize("sizes", [(MAX_HEADER_BYTES + 1, 0), (2, MAX_BODY_BYTES + 1)])
def test_a_size_beyond_all_measure_is_refused_unread(sizes: tuple[int, int]) -> None:
    with pytest.raises(BadFrame, match="a frame of"):
        read_frame(io.BytesIO(struct.pack(">II", *sizes)))


def test_a_stream_that_ends_early_is_an_end() -> None:
    whole = frame(b'{"arrays": 0, "kind": "k"}').getvalue()
    for cut in range(len(whole)):
        assert read_frame(io.BytesIO(whole[:cut])) is None
