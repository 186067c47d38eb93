"""perf_event_open at its lowest seam: open, control and read one event; knows no event by name.

Tests put recorded streams in its place, so that everything above it runs for real.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
from typing import Protocol

ENABLE, DISABLE, RESET = 0x2400, 0x2401, 0x2403
HARDWARE, RAW = 0, 4
_SYSCALL = {"x86_64": 298, "aarch64": 241}
_READ_FORMAT = 0b11  # time enabled, time running
# bits of perf_event_attr's flag word: disabled, inherit, exclude_kernel, exclude_hv
_FLAGS = 1 << 0 | 1 << 1 | 1 << 5 | 1 << 6
_ATTR_BYTES = 128

# Value, nanoseconds enabled, nanoseconds running. An event of a thread is enabled only while the
# thread runs: with `inherit`, the nanoseconds are busy time, summed over threads.
Reading = tuple[int, int, int]


class Perf(Protocol):
    """The kernel's counters of this thread and of those that it starts."""

    def open(self, kind: int, config: int) -> int:
        """Open an event, stopped; raises OSError where the machine or its rules refuse it."""
        ...

    def control(self, file: int, request: int) -> None:
        """Enable, disable or reset an event."""
        ...

    def read(self, file: int) -> Reading:
        """Return an event's reading."""
        ...

    def close(self, file: int) -> None:
        """Give an event back."""
        ...


class LinuxPerf:
    """The real ones."""

    def __init__(self, arch: str = platform.machine()) -> None:
        self._arch = arch

    def open(self, kind: int, config: int) -> int:
        """Open an event of this thread's user-space work, inherited by later threads."""
        attr = struct.pack("=IIQQQQQ", kind, _ATTR_BYTES, config, 0, 0, _READ_FORMAT, _FLAGS)
        libc = ctypes.CDLL(None, use_errno=True)
        buffer = ctypes.create_string_buffer(attr, _ATTR_BYTES)
        file: int = libc.syscall(_SYSCALL[self._arch], buffer, 0, -1, -1, 0)
        if file < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return file

    def control(self, file: int, request: int) -> None:
        """Enable, disable or reset an event."""
        fcntl.ioctl(file, request, 0)

    def read(self, file: int) -> Reading:
        """Return an event's reading."""
        value, enabled_ns, running_ns = struct.unpack("=QQQ", os.read(file, 24))
        return value, enabled_ns, running_ns

    def close(self, file: int) -> None:
        """Give an event back."""
        os.close(file)
