"""Pointwise steps as TIR expressions; every family's epilogue speaks this little language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import te, tirx

from host.lower.program import Step

# Adding it rounds a float32 to an integer, in its low bits.
_ROUND = 1.5 * 2**23
# exp near 0, for least relative maxima of the error.
_EXP = (8.312527e-3, 4.1890115e-2, 1.6667114e-1, 4.9999231e-1, 1.0, 1.0)
# Of `normal_share`: where it ends, and its coefficients from the highest power down (least maxima).
_LAST = 5.2
_SHARE = (
    -0.000413080212,
    0.00126353675,
    -0.00143111323,
    0.00181214046,
    -0.00454257987,
    0.0085495403,
    -0.0126432823,
    0.0179586969,
    -0.0246862918,
    0.0319893658,
    -0.0399340987,
    0.0500245467,
    -0.0677435324,
    0.135949999,
)
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
    poly = _polynomial(_EXP, r)
    return tirx.reinterpret(floats, tirx.reinterpret(integers, poly) + (shifted << 23))


def normal_share(x: Any) -> Any:
    """The normal distribution's share below x, by a polynomial (absolute error below 2e-7).

    The share less a half, over x, is a polynomial in x^2, which is mapped to [-1, 1]: there the sum
    of the coefficients is below 1, and nothing cancels. Beyond the last x it is 0 or 1.
    """
    x = te.max(te.min(x, _f(_LAST)), _f(-_LAST))
    u = x * x * _f(2.0 / _LAST**2) - _f(1.0)
    # Odd and even powers by themselves: two short chains of additions instead of a long one.
    odd, even = (_polynomial(_SHARE[first::2], u * u) for first in (0, 1))
    return x * (odd * u + even) + _f(0.5)


def _polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """Return a polynomial, its coefficients from the highest power down."""
    value = _f(coefficients[0])
    for c in coefficients[1:]:
        value = value * x + _f(c)
    return value


def _sigmoid(x: Any) -> Any:
    return _f(1.0) / (_f(1.0) + fast_exp(_f(0.0) - x))


def _gelu(x: Any) -> Any:
    return x * normal_share(x)


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
