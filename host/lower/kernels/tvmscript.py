"""Kernels written as TVMScript text: parsing, and the lines that the integer products share."""

from __future__ import annotations

from collections.abc import Iterable

import tvm
from tvm import tirx
from tvm.script import tirx as T


def parse(lines: Iterable[str]) -> tirx.PrimFunc:
    """Return the function of a script."""
    function = tvm.script.from_source("\n".join(lines), extra_vars={"T": T})
    assert isinstance(function, tirx.PrimFunc)
    return function


def llvm(name: str, *args: str, dtype: str) -> str:
    """Return the call of an LLVM intrinsic."""
    operands = ", ".join((f"T.llvm_lookup_intrinsic_id('llvm.{name}')", *args))
    return f"T.call_llvm_pure_intrin({operands}, dtype='{dtype}')"


def indent(lines: Iterable[str], depth: int) -> list[str]:
    """Return lines moved right."""
    return ["  " * depth + line for line in lines]
