"""Compiled kernels on disk, by configuration: a kernel seen once is never compiled again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx

from host.errors import BuildError, StoreError
from host.lower.kernels.kernel import KERNELS_VERSION, Kernel, symbol
from host.lower.targets import Target


def default_cache() -> Path:
    """Return where compiled objects are kept: HIL_CACHE, or the user's cache folder."""
    base = os.environ.get("HIL_CACHE")
    if base:
        return Path(base)
    xdg = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(xdg) / "hil-lab"


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file, then move it into place; processes may race."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            write(temporary)
            os.replace(temporary, path)
    except OSError as e:
        raise StoreError(
            f"cannot write {path}: {e.strerror}; free some space or set HIL_CACHE"
        ) from e


@dataclass
class ObjectCache:
    """Object files under `root`, one folder per schedule version and target."""

    root: Path = field(default_factory=default_cache)
    compiled: int = 0

    def objects(self, kernels: Iterable[Kernel], target: Target) -> dict[str, Path]:
        """Return the object file of every kernel by symbol, compiling what was never seen."""
        named = {symbol(kernel, target): kernel for kernel in kernels}
        paths = {name: self._path(name, target) for name in named}
        new = [name for name, path in paths.items() if not path.exists()]
        # Scheduling keeps state of its own and stays in this thread; LLVM works outside Python's
        # lock, one thread a core.
        functions = [named[name].prim_func(target) for name in new]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            jobs = [
                pool.submit(
                    write_atomically, paths[name], partial(_compile, function, target, name)
                )
                for name, function in zip(new, functions, strict=True)
            ]
            for job in jobs:
                job.result()
        self.compiled += len(new)
        return paths

    def _path(self, name: str, target: Target) -> Path:
        version = f"v{KERNELS_VERSION}-tvm{tvm.__version__}"
        return self.root / "objects" / version / target.name / name[-2:] / f"{name}.o"


def _compile(function: tirx.PrimFunc, target: Target, name: str, path: Path) -> None:
    """Write an object file that exports a function under `name`."""
    module = compile_function(function, target, name)
    with _mapped(target, name):
        module.write_to_file(str(path), "o")


def compile_function(function: tirx.PrimFunc, target: Target, name: str) -> Any:
    """Return the compiled module of one function that is called `name`."""
    module = tvm.IRModule({name: function.with_attr("global_symbol", name)})
    # The pass forgets which buffers are to stay on the stack (host.lower.kernels.emit.registers).
    context = tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True})
    with _mapped(target, name), context:
        return tvm.compile(module, target=tvm.target.Target(target.tvm())).mod


@contextmanager
def _mapped(target: Target, name: str) -> Iterator[None]:
    """Turn TVM's errors into one of ours."""
    try:
        yield
    except (tvm.error.TVMError, RuntimeError, ValueError, TypeError) as e:
        raise BuildError(f"kernel {name} does not compile for {target.name}: {e}") from e
