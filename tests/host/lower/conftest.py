"""Running kernels on this machine: one object cache for all tests, one caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_agent.weights import aligned
from hil_lab.inventory import open_board
from host.boards.session import BoardSession
from host.lower.kernels.kernel import Kernel, symbol
from host.lower.objects import ObjectCache, compile_function
from host.lower.targets import Target, local_target

RunKernel = Callable[..., np.ndarray]


@pytest.fixture(scope="session")
def target() -> Target:
    return local_target()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ObjectCache:
    return ObjectCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def run_kernel() -> RunKernel:
    """Compile a kernel and call it once; returns its destination."""
    import tvm_ffi

    loaded: dict[str, Any] = {}

    def run(kernel: Kernel, *arguments: np.ndarray, target: Target | None = None) -> np.ndarray:
        target = target or local_target()
        name = symbol(kernel, target)
        if name not in loaded:
            loaded[name] = compile_function(kernel.prim_func(target), target, name)
        out = aligned(np.zeros(kernel.out_shape, kernel.out_dtype))
        tensors = [*(aligned(a) for a in arguments), out]
        loaded[name][name](*(tvm_ffi.from_dlpack(t) for t in tensors))
        return out

    return run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "artifact"


@pytest.fixture(scope="session")
def local() -> Iterator[BoardSession]:
    """This machine behind the real agent."""
    with open_board("local") as client, client.lease("tests") as session:
        yield session
