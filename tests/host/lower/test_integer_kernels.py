"""Quantize, bit-pack and all integer products against numpy, exactly, on every target here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.weights import unpack
from host.lower.kernels.bit_gemm import COLUMN_TILE, K_BYTES, ROW_TILE, BitGemm
from host.lower.kernels.bit_pack import BitPack
from host.lower.kernels.codes import Codes
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.float_conv import NHWC
from host.lower.kernels.int8_conv import Int8Conv, int8_tile
from host.lower.kernels.int8_depthwise import LINES, Int8Depthwise, depthwise_tile
from host.lower.kernels.integer_product import IntegerProduct, Output
from host.lower.kernels.kernel import Accessor
from host.lower.kernels.quantize import Quantize
from host.lower.targets import TARGETS, Target, local_target
from tests.host.lower.conftest import RunKernel
from tests.host.lower.test_kernels import SHAPES, normal, reference_conv, rng

pytestmark = pytest.mark.tvm
# The targets that this machine can run, from the narrowest.
NAMES = ["x86-64", "x86-64-v4", "x86-64-v4-vnni"]
HERE = (
    [n for n in NAMES[: NAMES.index(local_target().name) + 1]]
    if (local_target().name in NAMES)
    else [local_target().name]
)
ZERO, NEXT = 3, np.array([0.7, 2.0], np.float32)


@dataclass(frozen=True)
class Case:
    """One integer layer: bits are (8, 8) for int8; `chained` where it writes codes.

    `extreme` where all codes are the largest, and so are most weights.
    """

    shape: ConvShape
    bits: tuple[int, int]
    chained: bool
    residual: bool = False
    extreme: bool = False


def codes_of(shape: ConvShape, bits: int, target: Target) -> Codes:
    signed = bits == 8 and target.int8 == "smull"
    return Codes(shape.height, shape.width, shape.in_channels, shape.padding, bits, signed)


def pixels(codes: Codes) -> tuple[int, int, int]:
    """Shape of codes with their border."""
    rows, columns = codes.padding
    return codes.height + 2 * rows, codes.width + 2 * columns, codes.channels


def stored(codes: Codes, values: np.ndarray, slack: int = 0x55) -> np.ndarray:
    """Lay codes [H + 2P, W + 2P, C] out in memory, the slack full of rubbish."""
    flat = np.full(codes.shape, slack, np.uint8).view(codes.dtype)
    rows, columns, channels = values.shape
    framed = np.zeros((rows, columns, codes.pixel), np.int64)
    framed[:, :, :channels] = values - codes.offset
    flat[: framed.size] = framed.ravel().astype(codes.dtype)
    return flat


def read(codes: Codes, flat: np.ndarray) -> np.ndarray:
    """Return stored codes as [H + 2P, W + 2P, C]."""
    rows, columns, channels = pixels(codes)
    framed = flat[: codes.count].reshape(rows, columns, codes.pixel)
    assert (framed[:, :, channels:] == 0).all()
    return framed[:, :, :channels].astype(np.int64) + codes.offset


def integer_conv(codes: np.ndarray, w: np.ndarray, c: ConvShape) -> np.ndarray:
    """codes [H + 2P, W + 2P, I], w [O, I / groups, KH, KW] -> int64 [OH, OW, O]."""
    bare = replace(c, height=codes.shape[0], width=codes.shape[1], padding=(0, 0))
    y = reference_conv(codes[None].astype(np.float64), w.astype(np.float64), bare)
    return y[0].astype(np.int64)


def int8_weights(kernel: Int8Conv, w: np.ndarray) -> np.ndarray:
    flat = w.reshape(*w.shape[:2], -1).transpose(0, 2, 1).astype(np.int8)
    row = {
        "name": "w",
        "encoding": "int8_runs",
        "dtype": "int8",
        "shape": kernel.operand_parameters[1][1],
        "n": len(w),
        "lines": kernel.conv.kernel[0],
        "n_tile": kernel.tile,
        "k_tile": kernel.depth,
    }
    return unpack(row, flat.tobytes())


def depthwise_weights(kernel: Int8Depthwise, w: np.ndarray) -> np.ndarray:
    """w [C, 1, KH, KW] -> [C / tile, KH / g, KW, tile * g]."""
    shape = kernel.operand_parameters[1][1]
    packed = np.zeros((*shape[:3], kernel.tile, kernel.lines), np.int8)
    for c, _, row, column in np.ndindex(w.shape):
        band, line = divmod(row, kernel.lines)
        packed[c // kernel.tile, band, column, c % kernel.tile, line] = w[c, 0, row, column]
    return packed.reshape(shape)


def bit_weights(kernel: BitGemm, w: np.ndarray) -> np.ndarray:
    flat = w.reshape(*w.shape[:2], -1).transpose(0, 2, 1)
    codes = (flat + 1) // 2 if kernel.weight_bits == 1 else flat
    planes = [
        np.packbits(((codes >> bit) & 1).astype(np.uint8).ravel(), bitorder="little")
        for bit in range(kernel.weight_bits)
    ]
    row = {
        "name": "w",
        "encoding": "bit_planes",
        "dtype": "uint8",
        "shape": kernel.operand_parameters[1][1],
        "n": flat.shape[0],
        "taps": flat.shape[1],
        "channels": flat.shape[2],
        "bits": kernel.weight_bits,
        "n_tile": kernel.tile,
        "k_bytes": K_BYTES,
    }
    return unpack(row, b"".join(p.tobytes() for p in planes))


def output_of(case: Case, target: Target) -> Output:
    c = case.shape
    codes = None
    if case.chained:
        reader = replace(c, height=c.out_height, width=c.out_width, in_channels=c.out_channels)
        codes = codes_of(replace(reader, padding=(1, 2)), case.bits[1], target)
    operands = (Accessor(c.out_shape, NHWC),) if case.residual else ()
    post = ((("add", 0),) if case.residual else ()) + (("relu",),)
    return Output((1, c.out_channels, c.out_height, c.out_width), NHWC, operands, post, codes)


def check_layer(run_kernel: RunKernel, case: Case, target: Target) -> None:
    """Run a layer and its revealed sums, and compare both with numpy."""
    c, (weight_bits, act_bits) = case.shape, case.bits
    r = rng()
    layout, output = codes_of(c, act_bits, target), output_of(case, target)
    codes = r.integers(0, 2**act_bits, pixels(layout))
    top = max(2 ** (weight_bits - 1) - 1, 1)
    w = r.integers(-top, top + 1, (c.out_channels, c.in_channels // c.groups, *c.kernel))
    w[0], codes[0] = -top, 0  # the extremes meet
    if case.extreme:
        w[1:], codes[:] = top, 2**act_bits - 1
    if weight_bits == 1:
        w = np.where(w >= 0, 1, -1)
    flat = stored(layout, codes)
    kernel: IntegerProduct
    if c.groups > 1:
        kernel = Int8Depthwise(output, *depthwise_tile(c, target), c, layout, LINES[target.int8])
        operands = (flat, depthwise_weights(kernel, w))
    elif weight_bits == 8:
        tile, depth = int8_tile(c.out_width, c.out_channels, target)
        kernel = Int8Conv(output, tile.pixels, tile.channels, c, layout, depth)
        operands = (flat, int8_weights(kernel, w))
    else:
        pack = BitPack(c, layout, K_BYTES)
        rows = min(ROW_TILE, output.rows)
        kernel = BitGemm(output, rows, COLUMN_TILE, pack.depth, weight_bits, act_bits)
        operands = (run_kernel(pack, flat, target=target), bit_weights(kernel, w))
    sums = integer_conv(codes - ZERO, w, c)
    scale = r.uniform(0.5, 2, c.out_channels) / np.abs(sums).max(initial=1)
    scale = scale.astype(np.float32)
    bias = normal(c.out_channels, seed=1)
    residual = [normal(*c.out_shape, seed=2)] if case.residual else []
    correction = (layout.offset - ZERO) * w.reshape(len(w), -1).sum(axis=1)
    tables = [correction.astype(np.int32), scale, bias, *([NEXT] if case.chained else [])]

    def run(reveal: int) -> np.ndarray:
        request = np.array([reveal], np.int32)
        return run_kernel(kernel, *operands, *tables, *residual, request, target=target)

    value = sums.astype(np.float32) * scale + bias + (residual[0][0] if residual else 0)
    value = np.maximum(value, 0)
    if output.codes is None:
        np.testing.assert_allclose(run(0)[0], value, rtol=1e-5, atol=1e-5)
        assert (run(1)[0].view(np.int32) == sums).all()
        return
    inside = (slice(1, -1), slice(2, -2))
    made = read(output.codes, run(0))
    scaled = value * NEXT[0] + NEXT[1]
    expected = np.full(made.shape, int(NEXT[1]))
    expected[inside] = np.clip(np.rint(value * NEXT[0]) + NEXT[1], 0, 2**act_bits - 1)
    tie = np.abs(scaled - np.floor(scaled) - 0.5) < 1e-4
    assert ((made == expected)[inside] | tie).all()
    made[inside] = expected[inside]
    assert (made == expected).all()
    parts = [read(output.codes, run(n + 1))[inside] - output.codes.offset for n in range(4)]
    revealed = np.stack(parts, axis=-1).astype(np.uint8).view(np.int32)[..., 0]
    assert (revealed == sums).all()


BITS = [(8, 8), (1, 1), (1, 6), (2, 2), (3, 4), (6, 1), (6, 6)]


@pytest.mark.parametrize(("shape", "bits"), list(product(SHAPES[:4], BITS)), ids=str)
def test_integer_layers_are_exact_for_any_shape_and_bits(
    run_kernel: RunKernel, shape: ConvShape, bits: tuple[int, int]
) -> None:
    check_layer(run_kernel, Case(shape, bits, chained=False), local_target())


@pytest.mark.parametrize(("name", "chained"), list(product(HERE, [False, True])))
@pytest.mark.parametrize("bits", [(8, 8), (2, 2)], ids=str)
def test_every_target_adds_a_residual_and_writes_codes_for_the_next_layer(
    run_kernel: RunKernel, name: str, chained: bool, bits: tuple[int, int]
) -> None:
    shape = ConvShape(9, 7, 19, 37, (3, 3), (2, 1), (1, 1))
    case = Case(shape, bits, chained, residual=not chained)
    check_layer(run_kernel, case, TARGETS[name]())


@pytest.mark.parametrize(("name", "bits"), list(product(HERE, BITS)), ids=str)
def test_the_largest_sums_overflow_nowhere(
    run_kernel: RunKernel, name: str, bits: tuple[int, int]
) -> None:
    shape = ConvShape(2, 3, 1500, 5, (1, 1), (1, 1), (0, 0))
    check_layer(run_kernel, Case(shape, bits, chained=False, extreme=True), TARGETS[name]())


DEPTHWISE = [
    (9, 7, 37, (3, 3), (2, 1), (1, 1)),
    (15, 14, 32, (3, 3), (1, 1), (1, 1)),
    (9, 9, 16, (5, 5), (2, 2), (2, 2)),
    (8, 31, 8, (7, 7), (1, 1), (3, 3)),
    (12, 5, 24, (9, 1), (1, 1), (4, 0)),
    (4, 40, 130, (1, 2), (1, 3), (0, 1)),
]


@pytest.mark.parametrize(("sizes", "name"), list(product(DEPTHWISE, HERE)), ids=str)
@pytest.mark.parametrize("chained", [False, True])
def test_depthwise_layers_are_exact_on_every_target(
    run_kernel: RunKernel, sizes: tuple[Any, ...], name: str, chained: bool
) -> None:
    height, width, channels, *rest = sizes
    shape = ConvShape(height, width, channels, channels, *rest, groups=channels)
    case = Case(shape, (8, 8), chained, residual=not chained)
    check_layer(run_kernel, case, TARGETS[name]())
    check_layer(run_kernel, replace(case, extreme=True), TARGETS[name]())


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kernel = draw(pairs)
    shape = ConvShape(
        draw(st.integers(kernel[0], 9)),
        draw(st.integers(kernel[1], 13)),
        draw(st.integers(1, 40)),
        draw(st.integers(1, 70)),
        kernel,
        draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
    )
    bits = draw(st.one_of(st.just((8, 8)), st.tuples(st.integers(1, 6), st.integers(1, 6))))
    return Case(shape, bits, draw(st.booleans()))


@settings(max_examples=25, deadline=None)
@given(case=cases(), name=st.sampled_from(HERE))
def test_any_integer_layer_is_exact(run_kernel: RunKernel, case: Case, name: str) -> None:
    check_layer(run_kernel, case, TARGETS[name]())


@settings(max_examples=25, deadline=None)
@given(
    case=cases(),
    kernel=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    channels=st.integers(2, 70),
    name=st.sampled_from(HERE),
)
def test_any_depthwise_layer_is_exact(
    run_kernel: RunKernel, case: Case, kernel: tuple[int, int], channels: int, name: str
) -> None:
    shape = replace(
        case.shape,
        height=max(case.shape.height, kernel[0]),
        width=max(case.shape.width, kernel[1]),
        in_channels=channels,
        out_channels=channels,
        kernel=kernel,
        groups=channels,
    )
    check_layer(run_kernel, replace(case, shape=shape, bits=(8, 8)), TARGETS[name]())


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("padding", [(1, 2), (0, 0)])
@pytest.mark.parametrize("signed", [False, True])
def test_quantize_rounds_half_to_even_and_pads_with_the_zero_point(
    run_kernel: RunKernel, bits: int, padding: tuple[int, int], signed: bool
) -> None:
    x = 3 * normal(1, 6, 5, 7)
    x[0, 0, :4, 0] = (0.5, 1.5, 2.5, -0.5)
    inverse, zero = np.float32(1.0), np.float32(2 if bits > 1 else 0)
    codes = Codes(6, 5, 7, padding, bits, signed and bits == 8)
    got = run_kernel(Quantize(codes), x, np.array([inverse, zero], np.float32))
    expected = np.full(pixels(codes), int(zero))
    rows, columns = padding
    expected[rows : rows + 6, columns : columns + 5] = np.clip(
        np.rint(x[0] * inverse) + zero, 0, 2**bits - 1
    )
    assert (read(codes, got) == expected).all()


def test_costs_count_padding_and_every_byte_once() -> None:
    target = TARGETS["cortex-a72"]()
    shape = ConvShape(5, 5, 7, 6, (3, 3), (1, 1), (1, 1))
    output = Output((1, 6, 5, 5), NHWC)
    tile, depth = int8_tile(5, 6, target)
    kernel = Int8Conv(output, tile.pixels, tile.channels, shape, codes_of(shape, 8, target), depth)
    cost = kernel.cost()
    weights = 8 * 3 * 32  # six channels in tiles of four, runs of 21 in steps of 16
    assert cost.macs == 25 * weights
    assert cost.weight_bytes == weights + 12 * 6
    assert (cost.bytes_read, cost.bytes_written) == (7 * 7 * 7, 4 * 25 * 6)
