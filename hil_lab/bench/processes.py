"""What another process of this machine takes: time on processors, and memory; Linux only."""

from __future__ import annotations

import time
from pathlib import Path

# Linux: the clock of a process by its id, see clock_getcpuclockid(3); bit 2 of sched, not of virt.
_SCHED = 2


def cpu_s(pid: int) -> float:
    """Return the seconds that a process has been on processors, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | _SCHED)


def peak_rss_bytes(pid: int, root: Path = Path("/")) -> int:
    """Return the most memory that a process has had resident."""
    for line in (root / f"proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "VmHWM":
            return int(value.split()[0]) << 10
    raise OSError(f"process {pid} tells no memory")
