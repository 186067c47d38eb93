"""Float convolutions against numpy, to 1e-5 of the output's range, on every target here."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.weights import unpack
from host.lower.kernels.conv_fp32 import ConvFp32
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.depthwise_fp32 import DepthwiseFp32
from host.lower.kernels.float_conv import NHWC
from host.lower.kernels.grouped_fp32 import GroupedConvFp32
from host.lower.kernels.kernel import Accessor, Kernel
from host.lower.kernels.register_tile import covering_tile
from host.lower.kernels.winograd import WinogradFp32, squares_of, winograd_outputs
from host.lower.kernels.winograd_transform import POINTS
from host.lower.program import Step
from host.lower.targets import TARGETS, Target
from tests.host.lower.conftest import RunKernel
from tests.host.lower.test_integer_kernels import HERE
from tests.host.lower.test_kernels import SHAPES, normal, reference_conv

pytestmark = pytest.mark.tvm
CHANNELS = st.integers(1, 70)


@st.composite
def shapes(draw: st.DrawFn) -> ConvShape:
    """Any ungrouped convolution with at least one output."""
    pointwise = draw(st.integers(0, 3)) == 0
    if pointwise:
        height, width = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
        channels = (draw(CHANNELS), draw(CHANNELS))
        return ConvShape(height, width, *channels, (1, 1), (1, 1), (0, 0))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = [draw(st.integers(max(1, k - 2 * p), 17)) for k, p in zip(kernel, padding, strict=True)]
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    channels = (draw(CHANNELS), draw(CHANNELS))
    return ConvShape(size[0], size[1], *channels, kernel, stride, padding)


def check(
    run_kernel: RunKernel, kernel: Kernel, shape: ConvShape, packed: np.ndarray, target: Target
) -> None:
    """Compare a kernel that adds a residual and clips with the same in float64."""
    x, w = picture(shape), weights(shape)
    bias, residual = normal(shape.out_channels, seed=2), normal(*shape.out_shape, seed=3)
    got = run_kernel(kernel, x, packed, bias, residual, target=target)
    y = reference_conv(x.astype(np.float64), w.astype(np.float64), shape) + bias + residual
    assert np.abs(got - np.maximum(y, 0)).max() <= 1e-5 * max(np.ptp(y), 1.0)


def picture(shape: ConvShape) -> np.ndarray:
    return normal(1, shape.height, shape.width, shape.in_channels)


def weights(shape: ConvShape) -> np.ndarray:
    return normal(shape.out_channels, shape.in_channels // shape.groups, *shape.kernel, seed=1)


def epilogue(shape: ConvShape) -> tuple[tuple[Accessor, ...], tuple[Step, ...]]:
    return (Accessor(shape.out_shape, NHWC),), (("add", 0), ("relu",))


def check_direct(run_kernel: RunKernel, shape: ConvShape, target: Target) -> None:
    operands, post = epilogue(shape)
    kernel = ConvFp32.tiled(shape, target, operands=operands, post=post)
    w = weights(shape)
    full = np.zeros((kernel.blocks * kernel.tile, *w.shape[1:]), np.float32)
    full[: len(w)] = w
    packed = full.reshape(kernel.blocks, kernel.tile, *w.shape[1:]).transpose(0, 3, 4, 2, 1)
    check(run_kernel, kernel, shape, packed, target)


def check_winograd(run_kernel: RunKernel, shape: ConvShape, outputs: int, target: Target) -> None:
    tile = covering_tile(squares_of(shape, outputs), shape.out_channels, target)
    kernel = WinogradFp32(shape, outputs, tile.channels, tile.pixels, *epilogue(shape))
    row = {
        "name": "w",
        "encoding": "winograd",
        "n": shape.out_channels,
        "channels": shape.in_channels,
        "side": kernel.side,
        "n_tile": kernel.tile,
        "shape": (kernel.blocks, kernel.points, shape.in_channels, kernel.tile),
        "dtype": "float32",
    }
    check(run_kernel, kernel, shape, unpack(row, weights(shape).tobytes()), target)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_direct_convolution(run_kernel: RunKernel, shape: ConvShape, name: str) -> None:
    check_direct(run_kernel, shape, TARGETS[name]())


@settings(max_examples=25, deadline=None)
@given(shape=shapes(), name=st.sampled_from(HERE))
def test_direct_convolutions_of_any_shape(
    run_kernel: RunKernel, shape: ConvShape, name: str
) -> None:
    check_direct(run_kernel, shape, TARGETS[name]())


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(3, 17),
    width=st.integers(3, 17),
    channels=st.tuples(CHANNELS, CHANNELS),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    outputs=st.sampled_from(sorted(POINTS)),
    name=st.sampled_from(HERE),
)
def test_winograd_convolutions_of_any_shape(
    run_kernel: RunKernel,
    height: int,
    width: int,
    channels: tuple[int, int],
    padding: tuple[int, int],
    outputs: int,
    name: str,
) -> None:
    shape = ConvShape(height, width, *channels, (3, 3), (1, 1), padding)
    check_winograd(run_kernel, shape, outputs, TARGETS[name]())


@pytest.mark.parametrize("outputs", sorted(POINTS))
def test_winograd_keeps_its_digits_over_many_channels(run_kernel: RunKernel, outputs: int) -> None:
    shape = ConvShape(8, 8, 512, 32, (3, 3), (1, 1), (1, 1))
    check_winograd(run_kernel, shape, outputs, TARGETS[HERE[-1]]())


@settings(max_examples=25, deadline=None)
@given(shape=shapes(), name=st.sampled_from(HERE))
def test_depthwise_convolutions_of_any_shape(
    run_kernel: RunKernel, shape: ConvShape, name: str
) -> None:
    channels = shape.in_channels
    shape = replace(shape, out_channels=channels, groups=channels)
    kernel = DepthwiseFp32(shape, *epilogue(shape))
    packed = weights(shape).transpose(2, 3, 1, 0)
    check(run_kernel, kernel, shape, packed, TARGETS[name]())


@settings(max_examples=10, deadline=None)
@given(
    shape=shapes(),
    groups=st.integers(2, 4),
    per_group=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    name=st.sampled_from(HERE),
)
def test_grouped_convolutions_of_any_shape(
    run_kernel: RunKernel,
    shape: ConvShape,
    groups: int,
    per_group: tuple[int, int],
    name: str,
) -> None:
    inputs, outputs = (groups * n for n in per_group)
    shape = replace(shape, in_channels=inputs, out_channels=outputs, groups=groups)
    kernel = GroupedConvFp32(shape, *epilogue(shape))
    packed = weights(shape).transpose(2, 3, 1, 0)
    check(run_kernel, kernel, shape, packed, TARGETS[name]())


def test_transforms_are_taken_where_they_pay() -> None:
    target = TARGETS["cortex-a72"]()
    wide = ConvShape(32, 32, 64, 64, (3, 3), (1, 1), (1, 1))
    assert winograd_outputs(wide, target) == 4
    for other in (
        replace(wide, stride=(2, 2)),
        replace(wide, kernel=(1, 1), padding=(0, 0)),
        replace(wide, in_channels=1),
        replace(wide, groups=64),
    ):
        assert winograd_outputs(other, target) == 0


def test_costs_count_what_is_executed() -> None:
    shape = SHAPES[0]
    assert ConvFp32(shape, 8, 9).cost().macs == 81 * 16 * 27
    kernel = WinogradFp32(shape, 4, 16, 1)
    assert kernel.cost().macs == 9 * 36 * 3 * 16
    assert math.prod(kernel.out_shape) == 81 * 16
