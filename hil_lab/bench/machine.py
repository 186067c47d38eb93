"""What a benchmark ran on: processor, versions and load; knows no benchmark."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

# What decides which kernels of ours and of the peers run.
FLAGS = (
    "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "amx_int8", "asimd", "asimddp", "i8mm",
)  # fmt: skip
PACKAGES = (
    "hil-lab", "numpy", "torch", "apache-tvm", "apache-tvm-ffi", "onnxruntime", "onnx", "ncnn",
    "pnnx", "timm",
)  # fmt: skip


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """Return the machine as JSON; what cannot be known is None."""
    info = _cpuinfo(root / "proc/cpuinfo")
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return {
        "cpu": info.get("model name") or info.get("CPU part"),
        "arch": platform.machine(),
        "cores": os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "load": list(os.getloadavg()),
        "versions": {"python": platform.python_version()} | _versions(),
    }


def _cpuinfo(path: Path) -> dict[str, str]:
    """Return the entries of the first core."""
    if not path.is_file():
        return {}
    first = path.read_text().partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _versions() -> dict[str, str | None]:
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
