"""The memory of a process and of all that it started, from /proc; cheap enough to ask often.

Where the kernel does not list a thread's children (CONFIG_PROC_CHILDREN), all processes are read.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

PROC = Path("/proc")


def resident_bytes(process: int, wrappers: int = 0, proc: Path = PROC) -> int:
    """Return the resident bytes of a process and its descendants; 0 where it is gone.

    `wrappers` generations from the top on only wait, and share their pages with what follows.
    """
    listed = (proc / str(process) / "task" / str(process) / "children").exists()
    families = {} if listed else _families(proc)
    total, generation = 0, [process]
    for depth in range(1 << 16):
        if not generation:
            break
        if depth >= wrappers:
            total += sum(_resident(each, proc) for each in generation)
        generation = [
            child
            for each in generation
            for child in (_children(each, proc) if listed else families.get(each, ()))
        ]
    return total


def _resident(process: int, proc: Path) -> int:
    try:
        pages = (proc / str(process) / "statm").read_text().split()[1]
    except (OSError, IndexError):  # it has ended
        return 0
    return int(pages) * resource.getpagesize()


def _children(process: int, proc: Path) -> list[int]:
    """Return what a process's threads have started; nothing where the kernel does not tell."""
    found: list[int] = []
    tasks = proc / str(process) / "task"
    try:
        for thread in os.listdir(tasks):
            found += map(int, (tasks / thread / "children").read_text().split())
    except OSError:  # it has ended meanwhile
        return found
    return found


def _families(proc: Path) -> dict[int, list[int]]:
    """Return the children of every process, by what each says of its parent."""
    found: dict[int, list[int]] = {}
    for status in proc.glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything.
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):  # it has ended
            continue
        found.setdefault(parent, []).append(int(status.parent.name))
    return found
