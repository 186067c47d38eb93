"""Hardware event counts of this process by perf_event_open; absence is reported, never fatal.

Open them before threads start: `inherit` counts later threads. Groups cannot be inherited, so each
event is its own, and a time_running below time_enabled says that the kernel multiplexed it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from protos.values import Counter

_SYSCALL = {"x86_64": 298, "aarch64": 241}
_ENABLE, _DISABLE, _RESET = 0x2400, 0x2401, 0x2403
_HARDWARE, _RAW = 0, 4
_READ_FORMAT = 0b11  # time enabled, time running
# bits of perf_event_attr's flag word: disabled, inherit, exclude_kernel, exclude_hv
_FLAGS = 1 << 0 | 1 << 1 | 1 << 5 | 1 << 6
_ATTR_BYTES = 128

# Generic events everywhere; raw codes of the Cortex-A72 (generic cache-misses is only L1D there).
GENERIC = {"cycles": 0, "instructions": 1, "branch-misses": 5}
CORTEX_A72 = {
    "l1i_refill": 0x01, "l1d_refill": 0x03, "l1d_cache": 0x04, "dtlb_refill": 0x05,
    "br_mis_pred": 0x10, "l2d_cache": 0x16, "l2d_refill": 0x17, "bus_access": 0x19,
    "ld_spec": 0x70, "st_spec": 0x71, "ase_spec": 0x74,
}  # fmt: skip

# Value, nanoseconds enabled, nanoseconds running.
Reading = tuple[int, int, int]


class Counters:
    """Open events; `notes` says which could not be opened and why."""

    def __init__(self, files: dict[str, int], notes: tuple[str, ...]) -> None:
        self._files = files
        self.notes = notes

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the events that are open."""
        return tuple(self._files)

    def start(self) -> None:
        """Count from zero."""
        self._all(_RESET)
        self._all(_ENABLE)

    def stop(self) -> None:
        """Stop counting."""
        self._all(_DISABLE)

    def read(self) -> tuple[Counter, ...]:
        """Return the counts, scaled up where they were multiplexed."""
        pairs = zip(self._files, self.readings(), strict=True)
        return tuple(found for name, reading in pairs if (found := counted(name, reading)))

    def silent(self, counted: Iterable[Counter]) -> tuple[str, ...]:
        """Say which open events are not among some that were counted: they never ran."""
        heard = {counter.name for counter in counted}
        return tuple(f"counter {name}: never ran" for name in self.names if name not in heard)

    def readings(self) -> tuple[Reading, ...]:
        """Return (value, enabled ns, running ns) of every event as the kernel has them."""
        return tuple(struct.unpack("=QQQ", os.read(file, 24)) for file in self._files.values())

    def _all(self, request: int) -> None:
        for file in self._files.values():
            fcntl.ioctl(file, request, 0)


@contextmanager
def opened(names: Sequence[str], arch: str = platform.machine()) -> Iterator[Counters]:
    """Open events by name, or by raw code as "r0x17"."""
    files, notes = {}, []
    for name in names:
        try:
            files[name] = _open(name, arch)
        except OSError as e:
            notes.append(f"counter {name}: {e.strerror}")
        except KeyError:
            notes.append(f"counter {name}: unknown on {arch}")
    try:
        yield Counters(files, tuple(notes))
    finally:
        for file in files.values():
            os.close(file)


def _open(name: str, arch: str) -> int:
    kind, config = _event(name, arch)
    attr = struct.pack("=IIQQQQQ", kind, _ATTR_BYTES, config, 0, 0, _READ_FORMAT, _FLAGS)
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attr, _ATTR_BYTES)
    file: int = libc.syscall(_SYSCALL[arch], buffer, 0, -1, -1, 0)
    if file < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return file


def _event(name: str, arch: str) -> tuple[int, int]:
    if name.startswith("r0x"):
        return _RAW, int(name[1:], 16)
    if name in GENERIC:
        return _HARDWARE, GENERIC[name]
    if arch == "aarch64":
        return _RAW, CORTEX_A72[name]
    raise KeyError(name)


def counted(name: str, reading: Reading) -> Counter | None:
    """Return an event's count, scaled up where it was multiplexed; None where it never ran."""
    value, enabled_ns, running_ns = reading
    if running_ns <= 0:
        return None
    if running_ns < enabled_ns:
        value = round(value * enabled_ns / running_ns)
    return Counter(name, value, enabled_ns, running_ns)
