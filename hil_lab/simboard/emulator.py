"""Aarch64 programs on a machine of another kind: the agent's own worker under qemu; never timed.

The folder named by HIL_ARM64_ROOT, made by `.ci/arm64-root`, holds an arm64 Python, the packages
that the worker imports and the TVM runtime; nothing in it is installed or run natively.
"""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import device_agent
from device_agent.supervise import ProcessRunner

ROOT_VARIABLE = "HIL_ARM64_ROOT"
ARCH = "aarch64"
# The board's core: an instruction that it lacks ends the program here too.
CPU = "cortex-a72"
PROGRAMS = ("qemu-aarch64", "qemu-aarch64-static")
# Inside the root.
PACKAGES = Path("opt/hil-lab/site")
RUNTIME = Path("opt/hil-lab/libtvm_runtime.so")
OWN_PROGRAM = Path("opt/hil-lab/qemu-aarch64-static")


@dataclass(frozen=True, slots=True)
class Emulator:
    """A qemu and an arm64 root that is complete."""

    program: str
    root: Path

    def command(self) -> tuple[str, ...]:
        """Return the worker's command line; what it sets wins over the environment."""
        agent = Path(str(device_agent.__file__)).resolve().parent.parent
        packages = f"{self.root / PACKAGES}:{agent}"
        variables = (f"PYTHONPATH={packages}", f"HIL_TVM_RUNTIME={self.root / RUNTIME}")
        sets = tuple(part for variable in variables for part in ("-E", variable))
        python = next(self.root.glob("usr/bin/python3.[0-9][0-9]"))
        emulated = (self.program, "-cpu", CPU, "-L", str(self.root), *sets)
        return (*emulated, str(python), "-S", "-m", "device_agent.worker")


def default_root() -> Path:
    """Return the arm64 root that the environment names, or where one is kept by default."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(ROOT_VARIABLE) or cache / "hil-lab" / "arm64-root").absolute()


def find_emulator(root: Path | None = None) -> Emulator | None:
    """Return the emulator of this machine, or None where qemu or a complete root is absent."""
    root = root or default_root()
    if not (root / "ready").is_file():
        return None
    own = root / OWN_PROGRAM
    found = [path for name in PROGRAMS if (path := shutil.which(name))]
    program = found[0] if found else str(own) if own.is_file() else None
    return Emulator(program, root) if program else None


def emulated_numbers() -> ProcessRunner | None:
    """Return a runner of aarch64 programs, or None where this machine cannot emulate them."""
    emulator = None if platform.machine() == ARCH else find_emulator()
    return ProcessRunner(emulator.command(), counters=(), own_files=False) if emulator else None
