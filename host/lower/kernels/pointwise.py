"""Pointwise steps as TIR expressions; every family's epilogue speaks this little language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import te, tirx

from host.lower.program import Step

# Adding it rounds a float32 to an integer, in its low bits.
_ROUND = 1.5 * 2**23
Read = Callable[[int], Any]


def _f(value: float) -> Any:
    return tirx.const(value, "float32")


def fast_exp(x: Any) -> Any:
    """exp by range reduction and a polynomial that vectorises (relative error below 3e-7)."""
    return exp_of_negative(te.min(x, _f(88.0)))


def exp_of_negative(x: Any) -> Any:
    """exp as `fast_exp`, for x below 88.

    The integer n in the low bits of a rounded sum, added to an exponent, multiplies by 2^n.
    """
    x = te.max(x, _f(-87.0))
    floats = str(x.ty)
    integers = floats.replace("float", "int")
    shifted = tirx.reinterpret(integers, x * _f(1.4426950408889634) + _f(_ROUND))
    # Seen as a float again only here, or TVM would simplify the sum and difference away.
    n = tirx.reinterpret(floats, shifted) - _f(_ROUND)
    r = x - n * _f(0.693359375) + n * _f(2.12194440e-4)
    poly = _f(8.312527e-3)
    for c in (4.1890115e-2, 1.6667114e-1, 4.9999231e-1, 1.0, 1.0):
        poly = poly * r + _f(c)
    return tirx.reinterpret(floats, tirx.reinterpret(integers, poly) + (shifted << 23))


def fast_erf(x: Any) -> Any:
    """erf as a ratio of polynomials that vectorises (absolute error below 5e-7)."""
    x = te.max(te.min(x, _f(4.0)), _f(-4.0))
    x2 = x * x
    p = _f(-2.72614225801306e-10)
    for c in (
        2.77068142495902e-08,
        -2.10102402082508e-06,
        -5.69250639462346e-05,
        -7.34990630326855e-04,
        -2.95459980854025e-03,
        -1.60960333262415e-02,
    ):
        p = p * x2 + _f(c)
    q = _f(-1.45660718464996e-05)
    for c in (
        -2.13374055278905e-04,
        -1.68282697438203e-03,
        -7.37332916720468e-03,
        -1.42647390514189e-02,
    ):
        q = q * x2 + _f(c)
    return x * p / q


def _sigmoid(x: Any) -> Any:
    return _f(1.0) / (_f(1.0) + fast_exp(_f(0.0) - x))


def _gelu(x: Any) -> Any:
    return x * _f(0.5) * (_f(1.0) + fast_erf(x * _f(0.7071067811865476)))


def _tanh(x: Any) -> Any:
    return _f(2.0) * _sigmoid(_f(2.0) * x) - _f(1.0)


def _gelu_tanh(x: Any) -> Any:
    inner = _f(0.7978845608028654) * (x + _f(0.044715) * x * x * x)
    return x * _f(0.5) * (_f(1.0) + _tanh(inner))


def _clip(x: Any, low: float, high: float) -> Any:
    return te.max(te.min(x, _f(high)), _f(low))


_UNARY: dict[str, Callable[..., Any]] = {
    "relu": lambda x: te.max(x, _f(0.0)),
    "clip": _clip,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "tanh": _tanh,
    "exp": fast_exp,
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "hardswish": lambda x: x * _clip(x + _f(3.0), 0.0, 6.0) * _f(1.0 / 6.0),
    "hardsigmoid": lambda x: _clip(x + _f(3.0), 0.0, 6.0) * _f(1.0 / 6.0),
    "add_scalar": lambda x, value: x + _f(value),
    "mul_scalar": lambda x, value: x * _f(value),
}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
}
# Element operations of one step, for the cost table.
_OPS = {"gelu": 24, "gelu_tanh": 24, "tanh": 18, "exp": 14, "sigmoid": 16, "silu": 17}


def apply(value: Any, steps: Sequence[Step], read: Read) -> Any:
    """Return the value after a chain of steps; `read(k)` gives tensor operand k."""
    for name, *params in steps:
        if name in _BINARY:
            value = _BINARY[name](value, read(params[0]))
        else:
            value = _UNARY[name](value, *params)
    return value


def ops(steps: Sequence[Step]) -> int:
    """Return element operations per output element of a chain."""
    return sum(_OPS.get(step[0], 1) for step in steps)
