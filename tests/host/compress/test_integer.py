"""Integer kernels and floats that hold integers answer alike, whatever a layer's form."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from host.compress import integer
from host.compress.quantize import QuantLayer, calibrate, quantized

bits = st.sampled_from([1, 2, 3, 4, 5, 6, 8])
pairs = st.tuples(st.integers(1, 2), st.integers(1, 2))


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    integer.exact.cache_clear()
    yield
    integer.exact.cache_clear()


def answers(layer: QuantLayer, x: Tensor) -> Tensor:
    with torch.no_grad():
        answer: Tensor = layer(x)
    return answer


def in_floats(layer: QuantLayer, x: Tensor) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integer, "exact", lambda: False)
        return answers(layer, x)


def alike(layer: QuantLayer, x: Tensor) -> bool:
    calibrate(layer, [x])
    found = answers(layer, x)
    return found.dtype == torch.float32 and torch.equal(found, in_floats(layer, x))


@settings(max_examples=60, deadline=None)
@given(
    weight_bits=bits,
    act_bits=bits,
    groups=st.sampled_from([1, 2, 6]),
    kernel=st.sampled_from([1, 2, 3]),
    stride=pairs,
    dilation=pairs,
    padding=st.sampled_from([(0, 0), (1, 2), "same", "valid"]),
    pixels_last=st.booleans(),
    shift=st.sampled_from([-2.0, 0.0, 2.0]),
)
def test_convolutions(
    weight_bits: int,
    act_bits: int,
    groups: int,
    kernel: int,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int] | str,
    pixels_last: bool,
    shift: float,
) -> None:
    torch.manual_seed(kernel)
    form = {"padding": padding, "dilation": dilation, "groups": groups}
    if padding == "same":  # torch knows it without strides, and warns of even kernels
        kernel, stride = 3, (1, 1)
    source = nn.Conv2d(6, 12, kernel, stride, **form).eval()  # type: ignore[arg-type]
    x = torch.randn(3, 6, 9, 8) + shift
    if pixels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    assert alike(quantized(source, weight_bits, act_bits), x)


@settings(max_examples=20, deadline=None)
@given(weight_bits=bits, act_bits=bits, tokens=st.booleans())
def test_linear_layers(weight_bits: int, act_bits: int, tokens: bool) -> None:
    torch.manual_seed(act_bits)
    x = torch.randn((2, 7, 16) if tokens else (5, 16))
    assert alike(quantized(nn.Linear(16, 4).eval(), weight_bits, act_bits), x)


@pytest.mark.parametrize("low", [0.0, -0.5, -1.0])
@pytest.mark.parametrize("channels", [200, 512, 2000])
def test_sums_beyond_float32(channels: int, low: float) -> None:
    torch.manual_seed(0)
    source = nn.Conv2d(channels, 3, 3, padding=1, bias=False).eval()
    with torch.no_grad():
        source.weight.uniform_(0.5, 1.0)
    assert alike(quantized(source, 8, 8), torch.rand(1, channels, 4, 4) + low)


def test_kernels_that_may_saturate_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_vnni": True})
    assert integer.exact()
    integer.exact.cache_clear()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert not integer.exact()
    integer.exact.cache_clear()
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert not integer.exact()
