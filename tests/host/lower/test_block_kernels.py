"""Kernels that skip blocks of zeros against numpy: integers exactly, floats to 1e-5."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.errors import Rejected
from device_agent.weights import synthetic, unpack
from host.compress.patterns import PATTERNS
from host.lower.kernels.block_fp32 import BlockFp32, strip_of
from host.lower.kernels.block_int8 import WIDEST_STRIP, BlockInt8
from host.lower.kernels.blocks import Blocks
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.dense_fp32 import dense_shape
from host.lower.kernels.float_conv import NHWC
from host.lower.kernels.kernel import Accessor
from host.lower.kernels.planes import Planes
from host.lower.targets import TARGETS, Target
from host.policy import BLOCK
from host.sparsity import BLOCK_OUTPUTS
from tests.host.lower.conftest import RunKernel
from tests.host.lower.test_convolution_kernels import epilogue, picture, shapes, weights
from tests.host.lower.test_integer_kernels import (
    HERE,
    NEXT,
    ZERO,
    Case,
    codes_of,
    integer_conv,
    output_of,
    pixels,
    read,
    stored,
)
from tests.host.lower.test_kernels import SHAPES, normal, reference_conv, rng

pytestmark = pytest.mark.tvm
SHARES = st.sampled_from([0.0, 0.5, 0.8, 0.97])


def thinned(w: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weights [O, I, KH, KW] without the blocks of least size, and which stay."""
    stays = PATTERNS[BLOCK](np.abs(w.reshape(len(w), -1)), share, rng()).reshape(w.shape)
    return w * stays, stays


def row_of(blocks: Blocks, planes: Planes, shape: tuple[int, ...], values: str) -> dict[str, Any]:
    return {
        "name": "w", "encoding": "blocks", "dtype": "int32", "shape": blocks.parameter[1],
        "n": shape[0], "unknowns": int(np.prod(shape[1:])), "height": BLOCK_OUTPUTS,
        "kept": blocks.kept, "depth": blocks.depth, "values": values, **planes.steps,
    }  # fmt: skip


def packed(w: np.ndarray, stays: np.ndarray, values: str) -> bytes:
    """Pack element by element as docs/artifact.md says, weights walked as [I, KW, KH]."""
    n, rows = len(w), -(-len(w) // BLOCK_OUTPUTS)
    w, stays = (a.transpose(0, 1, 3, 2).reshape(n, -1) for a in (w, stays))
    flags, data = [], []
    for row in range(rows):
        outputs = range(row * BLOCK_OUTPUTS, (row + 1) * BLOCK_OUTPUTS)
        for k in range(w.shape[1]):
            flags.append(stays[outputs[0], k])
            if flags[-1]:
                data += [w[o, k] if o < n else 0 for o in outputs]
    return np.packbits(flags, bitorder="little").tobytes() + np.array(data, values).tobytes()


def kept_of(stays: np.ndarray) -> int:
    return int(stays[::BLOCK_OUTPUTS].sum())


def check_float(run_kernel: RunKernel, shape: ConvShape, share: float, target: Target) -> None:
    w, stays = thinned(weights(shape), share)
    strip = strip_of(shape.out_height * shape.out_width, target)
    made = (1, shape.out_channels, shape.out_height, shape.out_width)
    kernel = BlockFp32(shape, kept_of(stays), strip, made, NHWC, *epilogue(shape))
    row = row_of(kernel.weights, kernel.planes, w.shape, "float32")
    stream = unpack(row, packed(w, stays, "float32"))
    bias, residual = normal(shape.out_channels, seed=2), normal(*shape.out_shape, seed=3)
    x = picture(shape)
    got = run_kernel(kernel, x, stream, bias, residual, target=target)
    y = reference_conv(x.astype(np.float64), w.astype(np.float64), shape) + bias + residual
    assert np.abs(got - np.maximum(y, 0)).max() <= 1e-5 * max(np.ptp(y), 1.0)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float_convolutions(run_kernel: RunKernel, shape: ConvShape, name: str) -> None:
    check_float(run_kernel, shape, 0.6, TARGETS[name]())


@settings(max_examples=25, deadline=None)
@given(shape=shapes(), share=SHARES, name=st.sampled_from(HERE))
def test_float_convolutions_of_any_shape_and_share(
    run_kernel: RunKernel, shape: ConvShape, share: float, name: str
) -> None:
    check_float(run_kernel, shape, share, TARGETS[name]())


@pytest.mark.parametrize("tokens", [1, 2, 17])
def test_float_linear_layers_read_operands_as_their_tokens_lie(
    run_kernel: RunKernel, tokens: int
) -> None:
    shape, target = dense_shape(tokens, 23, 10), TARGETS[HERE[0]]()
    w, stays = thinned(weights(shape), 0.5)
    operands = (Accessor((1, tokens, 10), (0, 1, 2)),)
    kernel = BlockFp32(
        shape,
        kept_of(stays),
        strip_of(tokens, target),
        (1, tokens, 10),
        (0, 1, 2),
        operands,
        (("add", 0),),
    )
    row = row_of(kernel.weights, kernel.planes, w.shape, "float32")
    x, bias, residual = normal(1, 1, tokens, 23), normal(10, seed=2), normal(1, tokens, 10, seed=3)
    stream = unpack(row, packed(w, stays, "float32"))
    got = run_kernel(kernel, x, stream, bias, residual, target=target)
    expected = x[0] @ w[:, :, 0, 0].T + bias + residual
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def check_int8(run_kernel: RunKernel, case: Case, share: float, target: Target) -> None:
    """Run a layer and its revealed sums, and compare both with numpy."""
    c, r = case.shape, rng()
    layout, output = codes_of(c, 8, target), output_of(case, target)
    codes = r.integers(0, 256, pixels(layout))
    w = r.integers(-127, 128, (c.out_channels, c.in_channels, *c.kernel))
    if case.extreme:
        w[:], codes[:] = 127, 0  # as stored, -128
    w, stays = thinned(w, share)
    kernel = BlockInt8(output, min(output.rows, WIDEST_STRIP), 4, c, layout, kept_of(stays))
    row = row_of(kernel.weights, kernel.planes, w.shape, "int8")
    stream, flat = unpack(row, packed(w, stays, "int8")), stored(layout, codes)
    sums = integer_conv(codes - ZERO, w, c)
    scale = (r.uniform(0.5, 2, c.out_channels) / np.abs(sums).max(initial=1)).astype(np.float32)
    bias = normal(c.out_channels, seed=1)
    residual = [normal(*c.out_shape, seed=2)] if case.residual else []
    correction = (layout.offset - ZERO) * w.reshape(len(w), -1).sum(axis=1)
    tables = [correction.astype(np.int32), scale, bias, *([NEXT] if case.chained else [])]

    def run(reveal: int) -> np.ndarray:
        request = np.array([reveal], np.int32)
        return run_kernel(kernel, flat, stream, *tables, *residual, request, target=target)

    if output.codes is None:
        value = sums.astype(np.float32) * scale + bias + (residual[0][0] if residual else 0)
        np.testing.assert_allclose(run(0)[0], np.maximum(value, 0), rtol=1e-5, atol=1e-5)
        assert (run(1)[0].view(np.int32) == sums).all()
        return
    inside = (slice(1, -1), slice(2, -2))
    parts = [read(output.codes, run(n + 1))[inside] - output.codes.offset for n in range(4)]
    assert (np.stack(parts, axis=-1).astype(np.uint8).view(np.int32)[..., 0] == sums).all()


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_integer_convolutions_are_exact(
    run_kernel: RunKernel, shape: ConvShape, chained: bool, name: str
) -> None:
    case = Case(shape, (8, 8), chained, residual=not chained)
    check_int8(run_kernel, case, 0.6, TARGETS[name]())


@pytest.mark.parametrize("name", HERE)
def test_the_largest_sums_overflow_nowhere(run_kernel: RunKernel, name: str) -> None:
    shape = ConvShape(2, 3, 1500, 5, (1, 1), (1, 1), (0, 0))
    check_int8(run_kernel, Case(shape, (8, 8), False, extreme=True), 0.3, TARGETS[name]())


@settings(max_examples=25, deadline=None)
@given(shape=shapes(), share=SHARES, chained=st.booleans(), name=st.sampled_from(HERE))
def test_integer_convolutions_of_any_shape_and_share_are_exact(
    run_kernel: RunKernel, shape: ConvShape, share: float, chained: bool, name: str
) -> None:
    check_int8(run_kernel, Case(shape, (8, 8), chained), share, TARGETS[name]())


@pytest.mark.parametrize(("depth", "values"), [(1, "float32"), (4, "int8")])
def test_blocks_that_are_made_up_are_as_many_and_spread_evenly(depth: int, values: str) -> None:
    planes, shape = Planes(SHAPES[0]), (16, 3, 3, 3)
    blocks = Blocks(4, 40, depth)
    stream = synthetic(row_of(blocks, planes, shape, values))
    ends, starts = stream[:5], stream[5 : 5 + depth * blocks.steps]
    assert stream.shape == (blocks.words,)
    assert list(np.diff(ends)) == [-(-10 // depth)] * 4
    assert starts.min() >= 0 and starts.max() + planes.positions <= planes.elements


@pytest.mark.parametrize("harm", ["kept", "short", "shape", "depth", "values"])
def test_blocks_that_do_not_fit_are_refused(harm: str) -> None:
    shape = replace(SHAPES[0], out_channels=5)
    w, stays = thinned(weights(shape), 0.5)
    row = row_of(Blocks(2, kept_of(stays), 1), Planes(shape), w.shape, "float32")
    data = packed(w, stays, "float32")
    row["kept"] += harm == "kept"
    row |= {"depth": {"depth": 0}, "values": {"values": "object"}}.get(harm, {})
    row["shape"] = (row["shape"][0] + (harm == "shape"),)
    with pytest.raises(Rejected, match="w: "):
        unpack(row, data[: len(data) - 4 * (harm == "short")])


def test_costs_count_what_stays_and_the_way_to_it() -> None:
    shape = ConvShape(8, 8, 16, 32, (3, 3), (1, 1), (1, 1))
    kernel = BlockFp32(shape, 100, 20, (1, 32, 8, 8), NHWC)
    cost = kernel.cost()
    planes = 16 * 3 * 10 * 8
    assert cost.macs == 80 * 4 * 100  # four strips of twenty positions
    assert cost.weight_bytes == 4 * (9 + 100 + 4 * 100 + 32)
    assert cost.bytes_read == 4 * (8 * 8 * 16 + planes)
    assert cost.bytes_written == 4 * (64 * 32 + planes)
