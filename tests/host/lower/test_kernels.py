"""Every kernel family against numpy or torch: integers exactly, floats to 1e-5."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from host.lower.kernels.conv_fp32 import ConvFp32
from host.lower.kernels.conv_shape import ConvShape
from host.lower.kernels.elementwise import Concatenate, Elementwise
from host.lower.kernels.float_conv import NHWC
from host.lower.kernels.kernel import Accessor, symbol
from host.lower.kernels.normalise import LayerNorm, Softmax
from host.lower.kernels.pool import Pool
from host.lower.targets import TARGETS
from tests.host.lower.conftest import RunKernel

pytestmark = pytest.mark.tvm
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return rng(seed).standard_normal(shape).astype(np.float32)


def reference_conv(x: np.ndarray, w: np.ndarray, c: ConvShape) -> np.ndarray:
    """x [1, H, W, I], w [O, I / groups, KH, KW] -> [1, OH, OW, O]."""
    y = F.conv2d(
        torch.from_numpy(x).permute(0, 3, 1, 2).double(),
        torch.from_numpy(w).double(),
        None,
        c.stride,
        c.padding,
        groups=c.groups,
    )
    return y.permute(0, 2, 3, 1).numpy()


SHAPES = [
    ConvShape(9, 9, 3, 16, (3, 3), (1, 1), (1, 1)),
    ConvShape(8, 8, 16, 37, (3, 3), (2, 2), (1, 1)),
    ConvShape(7, 5, 5, 10, (1, 1), (1, 1), (0, 0)),
    ConvShape(11, 6, 12, 24, (5, 3), (2, 1), (2, 0)),
    ConvShape(6, 6, 8, 1, (2, 2), (2, 2), (0, 0)),
]


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_pooling(run_kernel: RunKernel, reduce: str) -> None:
    shape = ConvShape(9, 8, 12, 12, (3, 2), (2, 2), (1, 0))
    x = normal(1, 9, 8, 12)
    picture = torch.from_numpy(x).permute(0, 3, 1, 2)
    pool = F.max_pool2d if reduce == "max" else F.avg_pool2d
    expected = pool(picture, (3, 2), (2, 2), (1, 0)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(run_kernel(Pool(shape, reduce), x), expected, **CLOSE)


def test_softmax_and_layer_norm(run_kernel: RunKernel) -> None:
    x = 10 * normal(13, 33)
    expected = torch.softmax(torch.from_numpy(x), 1).numpy()
    np.testing.assert_allclose(run_kernel(Softmax(13, 33), x), expected, **CLOSE)
    gain, shift = normal(33, seed=1), normal(33, seed=2)
    normed = F.layer_norm(torch.from_numpy(x), (33,), torch.from_numpy(gain)).numpy()
    got = run_kernel(LayerNorm(13, 33, 1e-5), x, gain, shift)
    np.testing.assert_allclose(got, normed + shift, rtol=1e-4, atol=1e-4)


POINTWISE = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "exp": torch.exp,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


@pytest.mark.parametrize("step", POINTWISE)
def test_pointwise_steps_match_torch(run_kernel: RunKernel, step: str) -> None:
    x = np.linspace(-12, 12, 1001, dtype=np.float32).reshape(7, 143)
    kernel = Elementwise(x.shape, (0, 1), (Accessor(x.shape, (0, 1)),), ((step,),))
    expected = POINTWISE[step](torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run_kernel(kernel, x), expected, rtol=3e-6, atol=2e-6)


def test_concatenation_along_channels_of_stored_pictures(run_kernel: RunKernel) -> None:
    a, b, c = normal(1, 4, 5, 3), normal(1, 4, 5, 6, seed=1), normal(1, 4, 5, 1, seed=2)
    parts = tuple(Accessor(p.shape, NHWC) for p in (a, b, c))
    kernel = Concatenate((1, 10, 4, 5), NHWC, 1, (3, 6, 1), parts)
    assert (run_kernel(kernel, a, b, c) == np.concatenate([a, b, c], axis=3)).all()


def test_symbols_differ_between_configurations_and_targets() -> None:
    kernels = [ConvFp32(shape, 8, 1) for shape in SHAPES]
    names = {symbol(k, TARGETS[t]()) for k in kernels for t in TARGETS}
    assert len(names) == len(kernels) * len(list(TARGETS))
    assert symbol(kernels[0], TARGETS["x86-64"]()) in names
