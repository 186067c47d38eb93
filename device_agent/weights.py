"""Weights from packed bytes to the arrays that kernels take (docs/artifact.md); numpy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from device_agent.errors import Rejected

Row = Mapping[str, Any]
# What compiled kernels assume of every tensor (TVM's kAllocAlignment).
ALIGNMENT_BYTES = 64


def unpack(row: Row, data: bytes) -> np.ndarray:
    """Return the array of one row of the weight table; raises Rejected where bytes do not fit."""
    if row["encoding"] not in _UNPACK:
        raise Rejected(f"{row['name']}: unknown encoding {row['encoding']!r}: update the agent")
    try:
        array = _UNPACK[row["encoding"]](row, data)
        return aligned(array.reshape(row["shape"]).astype(row["dtype"], copy=False))
    except (ValueError, LookupError, TypeError, ArithmeticError) as e:
        raise Rejected(f"{row['name']}: {len(data)} packed bytes do not fit its row: {e}") from e


def aligned(array: np.ndarray) -> np.ndarray:
    """Return a writable, contiguous copy at an address that vector loads may assume."""
    room = np.empty(array.nbytes + ALIGNMENT_BYTES, np.uint8)
    start = -room.ctypes.data % ALIGNMENT_BYTES
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def synthetic(row: Row) -> np.ndarray:
    """Fill an array of the right shape with harmless values: latency does not depend on them.

    No denormals, infinities or huge values, and wide integers are 0, a safe index. Blocks that stay
    are spread evenly: how many there are matters.
    """
    if row.get("encoding") == "blocks":
        return unpack(row, _even_blocks(row))
    rng = np.random.default_rng(0)
    shape, dtype = tuple(row["shape"]), np.dtype(row["dtype"])
    if dtype.kind == "f":
        return aligned(rng.uniform(0.01, 0.02, shape).astype(dtype))
    if dtype.itemsize == 1:
        return aligned(rng.integers(0, 128, shape).astype(dtype))
    return aligned(np.zeros(shape, dtype))


def _even_blocks(row: Row) -> bytes:
    """Return packed blocks, all weights alike, as many as stay, evenly spread."""
    size = math.ceil(row["n"] / row["height"]) * row["unknowns"]
    stays = np.zeros(size, np.uint8)
    stays[np.arange(row["kept"]) * size // row["kept"]] = 1
    weights = np.ones(row["kept"] * row["height"], row["values"])
    return np.packbits(stays, bitorder="little").tobytes() + weights.tobytes()


def _raw(row: Row, data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=row["dtype"])


def _int8_runs(row: Row, data: bytes) -> np.ndarray:
    n, lines, n_tile, k_tile = (row[key] for key in ("n", "lines", "n_tile", "k_tile"))
    runs = np.frombuffer(data, np.int8).reshape(n, lines, -1)
    n_pad, k_pad = _up(n, n_tile), _up(runs.shape[2], k_tile)
    padded = np.pad(runs, ((0, n_pad - n), (0, 0), (0, k_pad - runs.shape[2])))
    tiles = padded.reshape(n_pad // n_tile, n_tile, lines, k_pad // k_tile, k_tile)
    return tiles.transpose(0, 2, 3, 1, 4)


def _bit_planes(row: Row, data: bytes) -> np.ndarray:
    n, taps, channels, bits = (row[key] for key in ("n", "taps", "channels", "bits"))
    count, step = n * taps * channels, 8 * row["k_bytes"]
    packed = np.frombuffer(data, np.uint8).reshape(bits, math.ceil(count / 8))
    planes = np.unpackbits(packed, axis=1, count=count, bitorder="little")
    c_pad, n_pad = _up(channels, 8), _up(n, row["n_tile"])
    planes = planes.reshape(bits, n, taps, channels)
    planes = np.pad(planes, ((0, 0), (0, 0), (0, 0), (0, c_pad - channels)))
    k_pad = _up(taps * c_pad, step)
    planes = planes.reshape(bits, n, taps * c_pad)
    planes = np.pad(planes, ((0, 0), (0, n_pad - n), (0, k_pad - taps * c_pad)))
    packed = np.packbits(planes, axis=2, bitorder="little")
    tiles = packed.reshape(bits, n_pad // row["n_tile"], row["n_tile"], k_pad // step, -1)
    return tiles.transpose(1, 0, 3, 2, 4)


# Where Winograd's polynomials are evaluated, besides infinity, by the side of a square.
_POINTS = {4: (0.0, 1.0, -1.0), 6: (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5))}


def _kernel_matrix(side: int) -> np.ndarray:
    """Return G [side, 3]: powers of every point over its distances from the others."""
    points = _POINTS[side]
    distances = [math.prod(p - q for q in points if q != p) for p in points]
    rows = [[1.0, p, p * p] for p in points]
    finite = np.array(rows) / np.array(distances)[:, None]
    return np.vstack([finite, [0.0, 0.0, 1.0]])


def _winograd(row: Row, data: bytes) -> np.ndarray:
    n, channels, side, n_tile = (row[key] for key in ("n", "channels", "side", "n_tile"))
    kernels = np.frombuffer(data, np.float32).reshape(n, channels, 3, 3).astype(np.float64)
    transform = _kernel_matrix(side)
    points = (transform @ kernels @ transform.T).reshape(n, channels, side * side)
    points = np.pad(points, ((0, _up(n, n_tile) - n), (0, 0), (0, 0)))
    return points.reshape(-1, n_tile, channels, side * side).transpose(0, 3, 2, 1)


def _float_tiles(row: Row, data: bytes) -> np.ndarray:
    """[n, taps, channels] -> [n / tile, taps, channels, tile]."""
    n, tile = row["n"], row["tile"]
    values = np.frombuffer(data, np.float32).reshape(n, -1)
    values = np.pad(values, ((0, _up(n, tile) - n), (0, 0)))
    return values.reshape(-1, tile, values.shape[1]).transpose(0, 2, 1)


def _int8_lines(row: Row, data: bytes) -> np.ndarray:
    """[n, KH, KW] -> [n / tile, KH / lines, KW, tile, lines]."""
    n, tile, lines, columns = row["n"], row["tile"], row["lines"], row["shape"][2]
    codes = np.frombuffer(data, np.int8).reshape(n, -1, columns)
    height = codes.shape[1]
    codes = np.pad(codes, ((0, _up(n, tile) - n), (0, _up(height, lines) - height), (0, 0)))
    tiles = codes.reshape(-1, tile, codes.shape[1] // lines, lines, columns)
    return tiles.transpose(0, 2, 4, 1, 3)


def _sparse(row: Row, data: bytes) -> np.ndarray:
    stays, rest = _stays(row, data)
    if bits := row.get("bits"):
        count = row["kept"] * row["height"]
        packed = np.frombuffer(rest, np.uint8).reshape(bits, math.ceil(count / 8))
        planes = np.unpackbits(packed, axis=1, count=count, bitorder="little")
        spread = (_spread(row, stays, plane) for plane in planes)
        dense = b"".join(np.packbits(p, bitorder="little").tobytes() for p in spread)
    else:
        dense = _spread(row, stays, np.frombuffer(rest, row["dtype"])).tobytes()
    return _DENSE[row["dense"]](row, dense)


def _stays(row: Row, data: bytes) -> tuple[np.ndarray, bytes]:
    """Return the map [rows of units, unknowns] of what stays, and the bytes behind it."""
    rows, unknowns = math.ceil(row["n"] / row["height"]), row["unknowns"]
    size = math.ceil(rows * unknowns / 8)
    bits = np.unpackbits(np.frombuffer(data[:size], np.uint8), bitorder="little")
    if len(bits) < rows * unknowns or bits[rows * unknowns :].any() or bits.sum() != row["kept"]:
        raise ValueError(f"its map does not show {row['kept']} of {rows * unknowns}")
    return bits[: rows * unknowns].reshape(rows, unknowns).astype(bool), data[size:]


def _spread(row: Row, stays: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the weights [n, unknowns] with those that stay at their places."""
    dense = np.zeros((*stays.shape, row["height"]), values.dtype)
    dense[stays] = values.reshape(row["kept"], row["height"])
    return dense.transpose(0, 2, 1).reshape(-1, stays.shape[1])[: row["n"]]


def _blocks(row: Row, data: bytes) -> np.ndarray:
    """Return the stream of a walk: first steps of rows, beginnings of runs, weights by step."""
    stays, rest = _stays(row, data)
    kept, height, depth, lines = (row[key] for key in ("kept", "height", "depth", "lines"))
    if depth < 1 or lines < 1:
        raise ValueError(f"{depth} blocks to a step and {lines} lines")
    values = np.frombuffer(rest, row["values"]).reshape(kept, height)
    rows, unknowns = np.nonzero(stays)
    ends = np.concatenate([[0], np.cumsum(-(-stays.sum(1) // depth))])
    # A row begins with a step of its own; the places that no block fills weigh nothing.
    slots = ends[rows] * depth + (np.cumsum(stays, axis=1) - 1)[rows, unknowns]
    count = (kept + (depth - 1) * len(stays)) // depth * depth
    starts, weights = np.zeros(count, np.int32), np.zeros((count, height), values.dtype)
    starts[slots] = unknowns // lines * row["plane"] + unknowns % lines * row["line"]
    weights[slots] = values
    if depth > 1:  # pairs of blocks lie side by side, output by output
        weights = weights.reshape(-1, 2, height).transpose(0, 2, 1)
    words = np.ascontiguousarray(weights).reshape(-1).view(np.int32)
    return np.concatenate([ends.astype(np.int32), starts, words])


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


_DENSE: dict[str, Callable[[Row, bytes], np.ndarray]] = {
    "raw": _raw,
    "int8_runs": _int8_runs,
    "int8_lines": _int8_lines,
    "bit_planes": _bit_planes,
    "float_tiles": _float_tiles,
    "winograd": _winograd,
}
_UNPACK = {**_DENSE, "sparse": _sparse, "blocks": _blocks}
