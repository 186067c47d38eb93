"""The library that lets a process's wall clock jump and writes down what it synced (shim.c)."""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from host.errors import BuildError

SLOTS = 1 << 22
CLOCKS, SYNCED, PRELOAD = "HIL_FAULT_CLOCKS", "HIL_FAULT_SYNCED", "LD_PRELOAD"


@dataclass(frozen=True)
class Shim:
    """The built library, and the clocks of all processes that have it."""

    folder: Path

    @classmethod
    def built(cls, folder: Path) -> Shim:
        """Compile the library; raises BuildError."""
        shim = cls(folder)
        source = Path(__file__).with_name("shim.c")
        flags = ("-shared", "-fPIC", "-O1", "-o", str(shim._library), str(source))
        command = (sys.executable, "-m", "ziglang", "cc", *flags)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BuildError(f"cannot compile {source.name}: {done.stderr.strip()[-300:]}")
        with shim._clocks.open("wb") as file:
            file.truncate(SLOTS * 8)
        return shim

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that is to have it."""
        return {PRELOAD: str(self._library), CLOCKS: str(self._clocks)}

    def jump(self, pid: int, seconds: int) -> None:
        """Set the wall clock of a process forward, or back."""
        with self._clocks.open("r+b") as file, mmap.mmap(file.fileno(), SLOTS * 8) as clocks:
            struct.pack_into("q", clocks, 8 * (pid % SLOTS), seconds)

    @property
    def _library(self) -> Path:
        return self.folder / "shim.so"

    @property
    def _clocks(self) -> Path:
        return self.folder / "clocks"


def lose_unsynced(folder: Path, log: Path) -> list[str]:
    """Leave a folder as a power cut does: files that were not synced since they grew are empty.

    Returns the names of those that were lost.
    """
    synced = set(log.read_text().split("\n")) if log.exists() else set()
    lost = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != log):
        about = path.stat()
        if about.st_size and f"{about.st_ino} {about.st_size}" not in synced:
            path.chmod(0o600)
            os.truncate(path, 0)
            lost.append(str(path.relative_to(folder)))
    return lost
