"""From a plan to a shared library: the graph as VM bytecode, linked with the cached kernels."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tvm
from tvm import relax
from tvm.support import cc

from host.errors import BuildError
from host.lower.kernels.kernel import symbol
from host.lower.plan import Argument, Plan, Weight
from host.lower.targets import Target

ENTRY = "main"
GLIBC = "2.31"  # Raspberry Pi OS 11 and newer


def build_graph(plan: Plan, target: Target) -> tvm.IRModule:
    """Return the Relax function that calls every kernel by its symbol."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(plan.input_shape, "float32"))
    weights = {
        w.name: relax.Var(f"w{i}", _weight_type(w, plan)) for i, w in enumerate(plan.weights)
    }
    values: dict[str, Any] = {plan.input: x, **weights}
    shapes = {plan.input: plan.input_shape, **{w.name: w.shape for w in plan.weights}}

    def read(argument: Argument) -> Any:
        value = values[argument.name]
        if tuple(argument.shape) == tuple(shapes[argument.name]):
            return value
        return builder.emit(relax.op.reshape(value, argument.shape))

    with builder.function(ENTRY, [x, *weights.values()]):
        with builder.dataflow():
            for call in plan.calls:
                kernel = call.kernel
                shapes[call.out] = kernel.out_shape
                values[call.out] = builder.emit(
                    relax.op.call_dps_packed(
                        symbol(kernel, target),
                        tuple(read(a) for a in call.arguments),
                        out_ty=relax.TensorType(kernel.out_shape, kernel.out_dtype),
                    )
                )
            output = builder.emit_output(read(plan.output))
        builder.emit_func_output(output)
    return builder.get()


def _weight_type(weight: Weight, plan: Plan) -> Any:
    """Return the type of a weight: none where every call reads it as it lies.

    The graph checks each typed argument in every run, which took 16 of 300 us of an int8
    ResNet-20; the kernels check theirs anyway.
    """
    shapes = {a.shape for call in plan.calls for a in call.arguments if a.name == weight.name}
    if shapes <= {weight.shape}:
        return relax.AnyType()
    return relax.TensorType(weight.shape, weight.dtype)


def link(plan: Plan, target: Target, objects: Iterable[Path], out: Path, scratch: Path) -> None:
    """Compile the graph and write the shared library with its kernels."""
    description = tvm.target.Target(target.tvm())
    try:
        with description:
            executable = tvm.compile(build_graph(plan, target), target=description)
        executable.export_library(
            str(out),
            fcompile=compiler(target, scratch),
            addons=[str(p) for p in objects],
            workspace_dir=str(scratch),
        )
    except (tvm.error.TVMError, RuntimeError, ValueError) as e:
        raise BuildError(f"linking for {target.name} failed: {e}") from e


def compiler(target: Target, scratch: Path) -> Callable[..., Any]:
    """Return the linker for a target: the system's own cross compiler, else PyPI's ziglang."""
    command = find_linker(target, scratch)
    linker: Callable[..., Any] = cc.cross_compiler(command, get_target_triple=lambda: target.triple)
    return linker


def find_linker(target: Target, scratch: Path) -> str:
    """Return a command that links for a target; raises BuildError saying what to install."""
    names = [f"{target.triple}-gcc", f"{target.arch}-linux-gnu-gcc"]
    if target.arch == platform.machine():
        names.append("gcc")
    for name in names:
        if found := shutil.which(name):
            return found
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError(
            f"no linker for {target.triple}: pip install ziglang, or apt install "
            f"gcc-{target.triple.replace('_', '-')}"
        )
    return _zig(target, scratch)


def _zig(target: Target, scratch: Path) -> str:
    wrapper = scratch / "zig-cc"
    cpu = target.llvm_cpu.replace("-", "_")
    wrapper.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m ziglang cc '
        f'-target {target.arch}-linux-gnu.{GLIBC} -mcpu={cpu} "$@"\n'
    )
    os.chmod(wrapper, wrapper.stat().st_mode | stat.S_IXUSR)
    return str(wrapper)
