"""Unpacking against an independent, element by element reading of docs/artifact.md."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.errors import Rejected
from device_agent.weights import synthetic, unpack

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 19))


def up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


@settings(deadline=None)
@given(SHAPES, st.sampled_from([4, 8]), st.sampled_from([4, 16]), st.integers(0, 99))
def test_int8_runs(shape: tuple[int, int, int], n_tile: int, k_tile: int, seed: int) -> None:
    n, lines, k = shape
    w = np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)
    row = {
        "name": "w", "encoding": "int8_runs", "dtype": "int8",
        "shape": [up(n, n_tile) // n_tile, lines, up(k, k_tile) // k_tile, n_tile, k_tile],
        "n": n, "lines": lines, "n_tile": n_tile, "k_tile": k_tile,
    }  # fmt: skip
    got = unpack(row, w.tobytes())
    want = np.zeros(row["shape"], np.int8)
    for i in range(n):
        for line in range(lines):
            for j in range(k):
                at = i // n_tile, line, j // k_tile, i % n_tile, j % k_tile
                want[at] = w[i, line, j]
    np.testing.assert_array_equal(got, want)


@settings(deadline=None, max_examples=50)
@given(SHAPES, st.integers(1, 6), st.sampled_from([4, 8]), st.integers(0, 99))
def test_bit_planes(shape: tuple[int, int, int], bits: int, n_tile: int, seed: int) -> None:
    n, taps, channels = shape
    k_bytes, codes = 16, np.random.default_rng(seed).integers(0, 2**bits, shape)
    flat = [[(int(c) >> bit) & 1 for c in codes.ravel()] for bit in range(bits)]
    data = b"".join(
        bytes(
            sum(bit << i for i, bit in enumerate(plane[start : start + 8]))
            for start in range(0, len(plane), 8)
        )
        for plane in flat
    )
    c_pad = up(channels, 8)
    k_pad = up(taps * c_pad, 8 * k_bytes)
    row = {
        "name": "w", "encoding": "bit_planes", "dtype": "uint8",
        "shape": [up(n, n_tile) // n_tile, bits, k_pad // (8 * k_bytes), n_tile, k_bytes],
        "n": n, "taps": taps, "channels": channels, "bits": bits, "n_tile": n_tile,
        "k_bytes": k_bytes,
    }  # fmt: skip
    got = unpack(row, data)
    want = np.zeros(row["shape"], np.uint8)
    for i, t, c, bit in np.ndindex(n, taps, channels, bits):
        k = t * c_pad + c
        byte = k // 8
        value = ((int(codes[i, t, c]) >> bit) & 1) << (k % 8)
        want[i // n_tile, bit, byte // k_bytes, i % n_tile, byte % k_bytes] |= value
    np.testing.assert_array_equal(got, want)


def test_raw_keeps_shape_and_type() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    row = {"name": "w", "encoding": "raw", "dtype": "float32", "shape": [2, 3]}
    np.testing.assert_array_equal(unpack(row, array.tobytes()), array)


@pytest.mark.parametrize("encoding", ["raw", "zip"])
def test_bytes_or_encodings_that_do_not_fit_are_refused(encoding: str) -> None:
    row = {"name": "w", "encoding": encoding, "dtype": "float32", "shape": [2, 3]}
    with pytest.raises(Rejected, match="w: "):
        unpack(row, b"12345678")


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int32"])
def test_synthetic_weights_have_the_shape_and_are_harmless(dtype: str) -> None:
    array = synthetic({"dtype": dtype, "shape": [3, 5]})
    assert array.shape == (3, 5) and array.dtype == dtype
    assert np.isfinite(array.astype(float)).all() and np.abs(array.astype(float)).max() <= 127
