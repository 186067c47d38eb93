"""Dense layers and products of two activations against numpy, on every target of this machine."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.lower.kernels.dense_fp32 import DenseFp32, dense_shape, dense_tile
from host.lower.kernels.kernel import Accessor
from host.lower.kernels.matmul_fp32 import MatmulFp32, Strided
from host.lower.kernels.register_tile import covering_tile
from host.lower.targets import TARGETS, Target
from tests.host.lower.conftest import RunKernel
from tests.host.lower.test_integer_kernels import HERE
from tests.host.lower.test_kernels import normal
from tests.host.lower.test_row_kernels import close

pytestmark = pytest.mark.tvm


def check_dense(
    run_kernel: RunKernel, sizes: tuple[int, int, int], residual: bool, target: Target
) -> None:
    tokens, inputs, outputs = sizes
    x, w = normal(tokens, inputs), normal(outputs, inputs, seed=1)
    bias, extra = normal(outputs, seed=2), normal(1, tokens, outputs, seed=3)
    channels, pixels = astuple(dense_tile(tokens, outputs, target))[::-1]
    operands = (Accessor(extra.shape, (0, 1, 2)),) if residual else ()
    post = ((("add", 0),) if residual else ()) + (("relu",),)
    shape = dense_shape(tokens, inputs, outputs)
    kernel = DenseFp32(shape, channels, pixels, operands, post, (1, tokens))
    full = np.zeros((kernel.blocks * channels, inputs), np.float32)
    full[:outputs] = w
    packed = full.reshape(kernel.blocks, channels, 1, 1, inputs).transpose(0, 2, 3, 4, 1)
    more = [extra] if residual else []
    got = run_kernel(kernel, x.reshape(1, 1, *x.shape), packed, bias, *more, target=target)
    wide = x.astype(np.float64) @ w.T + bias + (extra[0] if residual else 0)
    assert np.abs(got[0, 0] - np.maximum(wide, 0)).max() <= 1e-5 * np.abs(wide).max()


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(1, 150)),
    residual=st.booleans(),
    name=st.sampled_from(HERE),
)
def test_dense_layers_of_any_size(
    run_kernel: RunKernel, sizes: tuple[int, int, int], residual: bool, name: str
) -> None:
    check_dense(run_kernel, sizes, residual, TARGETS[name]())


@settings(max_examples=25, deadline=None)
@given(inputs=st.integers(1, 90), outputs=st.integers(1, 1100), name=st.sampled_from(HERE))
def test_a_lone_token_times_any_weights(
    run_kernel: RunKernel, inputs: int, outputs: int, name: str
) -> None:
    check_dense(run_kernel, (1, inputs, outputs), False, TARGETS[name]())


@dataclass(frozen=True)
class Product:
    """A product of `heads` pairs [rows, depth] and [depth, columns], read from wider tensors.

    `turned` where b is stored [columns, depth], `beside` where heads are stored side by side.
    """

    heads: int
    rows: int
    columns: int
    depth: int
    turned: bool
    beside: bool
    residual: bool


def placed(values: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, Strided]:
    """Store an operand with its axes in another order, among elements that are not its own."""
    turned = values.transpose(axes)
    wide = np.full((*turned.shape[:-1], turned.shape[-1] + 3), np.nan, np.float32)
    wide[..., 2:-1] = turned
    steps = [math.prod(wide.shape[axis + 1 :]) for axis in range(wide.ndim)]
    strides = tuple(steps[axes.index(axis)] for axis in range(len(axes)))
    return wide.ravel(), Strided(wide.size, 2, strides)


def check_product(run_kernel: RunKernel, p: Product, target: Target) -> None:
    a, b = normal(1, p.heads, p.rows, p.depth), normal(1, p.heads, p.depth, p.columns, seed=1)
    extra = normal(1, p.heads, p.rows, p.columns, seed=2)
    left, a_view = placed(a, (0, 2, 1, 3))
    right, b_view = placed(b, (0, 3, 1, 2) if p.turned else (0, 2, 1, 3))
    tile = covering_tile(p.rows, p.columns, target)
    order = (0, 2, 1, 3) if p.beside else (0, 1, 2, 3)
    kernel = MatmulFp32(
        extra.shape,
        p.depth,
        a_view,
        b_view,
        tile.channels,
        tile.pixels,
        order,
        (Accessor(extra.shape, (0, 1, 2, 3)),) if p.residual else (),
        (("mul_scalar", 0.5), *((("add", 0),) if p.residual else ())),
    )
    more = [extra] if p.residual else []
    got = run_kernel(kernel, left, right, *more, target=target)
    expected = 0.5 * (a.astype(np.float64) @ b) + (extra if p.residual else 0)
    assert close(got, expected.transpose(order))


@settings(max_examples=40, deadline=None)
@given(
    product=st.builds(
        Product,
        heads=st.integers(1, 3),
        rows=st.integers(1, 30),
        columns=st.integers(1, 90),
        depth=st.integers(1, 40),
        turned=st.booleans(),
        beside=st.booleans(),
        residual=st.booleans(),
    ),
    name=st.sampled_from(HERE),
)
def test_products_of_any_size_and_layout(
    run_kernel: RunKernel, product: Product, name: str
) -> None:
    check_product(run_kernel, product, TARGETS[name]())


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", HERE)
def test_attention_of_a_vision_transformer(run_kernel: RunKernel, turned: bool, name: str) -> None:
    columns, depth = (65, 64) if turned else (64, 65)
    check_product(run_kernel, Product(3, 65, columns, depth, turned, True, False), TARGETS[name]())
