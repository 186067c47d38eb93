"""A TVM program in this process: tvm_ffi and the runtime library; never the TVM package.

Only the agent's child process imports this: whatever the program does, the daemon lives.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from device_agent import weights
from device_agent.errors import AgentError, Crashed, Missing, Rejected
from device_agent.values import Job

RUNTIME_LIBRARY = "libtvm_runtime.so"
RUNTIME_VARIABLE = "HIL_TVM_RUNTIME"
_CPU, _POOLED = 1, 2


def find_runtime() -> Path:
    """Return the runtime library: named by the environment, beside the agent, or TVM's own.

    TVM's package is located, not imported.
    """
    places = [Path(__file__).parent / RUNTIME_LIBRARY]
    if named := os.environ.get(RUNTIME_VARIABLE):
        places.insert(0, Path(named))
    spec = importlib.util.find_spec("tvm")
    if spec and spec.origin:
        places.append(Path(spec.origin).parent / "lib" / RUNTIME_LIBRARY)
    for place in places:
        if place.is_file():
            return place
    raise Missing(f"{RUNTIME_LIBRARY} is not on the board: set {RUNTIME_VARIABLE} to its path")


def load_runtime() -> Any:
    """Load the runtime library and return tvm_ffi; nothing of a program is loaded yet."""
    tvm_ffi = _import_ffi()
    ctypes.CDLL(str(find_runtime()), mode=ctypes.RTLD_GLOBAL)
    return tvm_ffi


class Program:
    """One loaded artifact; its weights are unpacked once. `runtime` is what load_runtime gave."""

    def __init__(self, job: Job, runtime: Any = None) -> None:
        self._ffi = tvm_ffi = runtime or load_runtime()
        self.manifest: Mapping[str, Any] = job.manifest
        library = job.blobs / job.manifest["library"]["digest"]
        try:
            self._vm = _load(tvm_ffi.load_module, library)["vm_load_executable"]()
            self._vm["vm_initialization"](_CPU, 0, _POOLED, _CPU, 0, _POOLED)
            self._main = self._vm[job.manifest["entry"]]
        except (RuntimeError, ValueError, AttributeError) as e:
            raise Rejected(f"the library cannot be loaded: {_first_line(e)}") from e
        self.weights = [_weight(row, job) for row in job.manifest["weights"]]
        self._weights = [tvm_ffi.from_dlpack(array) for array in self.weights]

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """Return a copy of the output for one program-sized input."""
        return np.from_dlpack(self.bound(inputs)()).copy()

    def bound(self, inputs: np.ndarray) -> Callable[[], Any]:
        """Return a call without arguments that runs the program on this input.

        A plain call and set_input + invoke_stateful cost the same (1.7 us on a two-kernel program).
        """
        main, bound = self._main, self._ffi.from_dlpack(weights.aligned(inputs))
        arguments = self._weights

        def invoke() -> Any:
            try:
                return main(bound, *arguments)
            except (RuntimeError, ValueError, TypeError) as e:
                raise Crashed(f"the program raised {_first_line(e)}") from e

        return invoke

    def example(self) -> np.ndarray:
        """Return a harmless input of the program's shape."""
        return weights.synthetic(self.manifest["inputs"][0])

    def run_watched(self, inputs: np.ndarray, watch: Watch) -> np.ndarray:
        """Return a copy of the output of one run with `watch` around every kernel."""
        return np.from_dlpack(self.watched(self.bound(inputs), watch)).copy()

    def watched(self, invoke: Callable[[], Any], watch: Watch) -> Any:
        """Call what `bound` returned with `watch` called around every row of the kernel table."""
        self._vm["set_instrument"](self._ffi.convert(watch))
        try:
            output = invoke()
        except Crashed as e:
            raise watch.failure or e from e
        finally:
            self._vm["set_instrument"](None)
        watch.finish()
        return output


class Watch:
    """An instrument of the VM that follows the kernel table by call order."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._calls = [row["call"] for row in manifest["kernels"]]
        self._known = frozenset(self._calls)
        self._next = 0
        self.failure: AgentError | None = None

    def __call__(self, func: Any, name: str, before: bool, ret: Any, *args: Any) -> int:
        if name in self._known:
            try:
                self.before() if before else self.after(self.count(name), func, args)
            except AgentError as e:
                self.failure = e  # the runtime would turn it into its own error
                raise
        return 0

    def count(self, name: str) -> int:
        """Return the row that has just run; raises Rejected where the table has another call."""
        index, self._next = self._next, self._next + 1
        if index >= len(self._calls) or self._calls[index] != name:
            raise Rejected(f"call {index} is {name}, which its manifest has elsewhere")
        return index

    def before(self) -> None:
        """Note that a kernel is about to run."""

    def after(self, index: int, func: Callable[..., Any], args: Sequence[Any]) -> None:
        """Note that row `index` has run, `func(*args)`; the destination is the last argument."""

    def finish(self) -> None:
        """Raise Rejected unless every row has run, and start over."""
        ran, self._next = self._next, 0
        if ran != len(self._calls):
            raise Rejected(
                f"{ran} of {len(self._calls)} kernels of the manifest ran: build the artifact again"
            )


def _import_ffi() -> Any:
    """Import tvm_ffi without torch, which it would load where it is installed (1 s, 300 MB).

    Only here, so that the daemon never maps the runtime.
    """
    had_torch = "torch" in sys.modules
    if not had_torch:
        sys.modules["torch"] = None  # type: ignore[assignment]  # makes `import torch` fail
    try:
        return importlib.import_module("tvm_ffi")
    finally:
        if not had_torch:
            del sys.modules["torch"]


def _weight(row: Mapping[str, Any], job: Job) -> np.ndarray:
    if job.synthetic:
        return weights.synthetic(row)
    return weights.unpack(row, (job.blobs / row["digest"]).read_bytes())


def _load(load_module: Callable[[str], Any], library: Path) -> Any:
    """Load a blob under a name that ends in .so, by which tvm_ffi knows what to do with it."""
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "program.so"
        link.symlink_to(library.resolve())
        return load_module(str(link))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
