"""Kernels that walk rows, against numpy for any width, on every target of this machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.lower.kernels.elementwise import Copy
from host.lower.kernels.float_conv import NHWC
from host.lower.kernels.kernel import Accessor
from host.lower.kernels.normalise import LayerNorm, Softmax
from host.lower.program import View
from host.lower.targets import TARGETS
from tests.host.lower.conftest import RunKernel
from tests.host.lower.test_integer_kernels import HERE
from tests.host.lower.test_kernels import normal, rng

pytestmark = pytest.mark.tvm
sizes = st.tuples(st.integers(1, 20), st.integers(1, 300))


def close(got: np.ndarray, expected: np.ndarray) -> bool:
    """Whether values agree to 1e-5 of the expected range."""
    return bool(np.abs(got - expected).max() <= 1e-5 * max(np.abs(expected).max(), 1e-30))


def softmax(x: np.ndarray) -> np.ndarray:
    power = np.exp(x - x.max(axis=1, keepdims=True))
    share: np.ndarray = power / power.sum(axis=1, keepdims=True)
    return share


@settings(max_examples=25, deadline=None)
@given(size=sizes, spread=st.sampled_from([0.1, 3.0, 60.0]), name=st.sampled_from(HERE))
def test_softmax_of_any_width(
    run_kernel: RunKernel, size: tuple[int, int], spread: float, name: str
) -> None:
    x = (spread * rng().standard_normal(size)).astype(np.float32)
    got = run_kernel(Softmax(*size), x, target=TARGETS[name]())
    assert close(got, softmax(x.astype(np.float64)))


def test_softmax_of_many_rows_and_of_values_far_below_the_largest(run_kernel: RunKernel) -> None:
    x = np.full((200, 65), -3e38, np.float32)
    x[:, 64] = 1e3
    got = run_kernel(Softmax(200, 65), x)
    assert (got[:, 64] == 1).all()
    assert got[:, :64].max() < 1e-30


@settings(max_examples=25, deadline=None)
@given(size=sizes, centre=st.sampled_from([0.0, 40.0]), name=st.sampled_from(HERE))
def test_layer_norm_of_any_width(
    run_kernel: RunKernel, size: tuple[int, int], centre: float, name: str
) -> None:
    r = rng()
    x = (r.standard_normal(size) + centre).astype(np.float32)
    gain, shift = (r.standard_normal(size[1]).astype(np.float32) for _ in range(2))
    wide = x.astype(np.float64)
    spread = np.sqrt(wide.var(axis=1, keepdims=True) + 1e-5)
    expected = (wide - wide.mean(axis=1, keepdims=True)) / spread * gain + shift
    got = run_kernel(LayerNorm(*size, 1e-5), x, gain, shift, target=TARGETS[name]())
    # A mean far from zero leaves fewer digits to what differs from it.
    tolerance = (1e-5 if centre == 0 else 2e-4) * np.abs(expected).max()
    assert np.abs(got - expected).max() <= tolerance


@settings(max_examples=25, deadline=None)
@given(
    planes=st.integers(1, 6),
    size=st.tuples(st.integers(1, 30), st.integers(1, 80)),
    cut=st.booleans(),
    name=st.sampled_from(HERE),
)
def test_planes_of_a_picture_are_interleaved(
    run_kernel: RunKernel, planes: int, size: tuple[int, int], cut: bool, name: str
) -> None:
    shape = (1, planes, *size)
    x = normal(*shape)
    view = View("x", shape)
    if cut:
        view = view.then(
            "slice", (2, size[0] // 2, 1), (1, planes, size[0] - size[0] // 2, size[1])
        )
    kernel = Copy(view.shape, NHWC, (Accessor(shape, (0, 1, 2, 3), view.steps),))
    expected = x[:, :, size[0] // 2 if cut else 0 :].transpose(NHWC)
    assert (run_kernel(kernel, x, target=TARGETS[name]()) == expected).all()
