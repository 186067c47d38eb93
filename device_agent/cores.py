"""Which cores measured programs run on, and which one is left to the daemon; moves nobody."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_ISOLATED = "sys/devices/system/cpu/isolated"


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores that this process may use, and those that the scheduler leaves alone (isolcpus)."""

    allowed: tuple[int, ...]
    isolated: tuple[int, ...] = ()

    @classmethod
    def of_machine(cls, root: Path = Path("/"), allowed: Iterable[int] | None = None) -> Cores:
        """Return the cores of this machine, by default those that this process may use."""
        mine = os.sched_getaffinity(0) if allowed is None else allowed
        try:
            isolated = numbers((root / _ISOLATED).read_text())
        except (OSError, ValueError):
            isolated = ()
        return cls(tuple(sorted(mine)), isolated)

    @property
    def daemon(self) -> tuple[int, ...]:
        """Return the first core, where programs come last."""
        return self.allowed[:1]

    def program(self, threads: int) -> tuple[int, ...]:
        """Return the cores of a program.

        One thread gets an isolated core, else the last one. Several get the last ones that are
        not isolated, where there are enough: nobody spreads threads over isolated cores.
        """
        if threads == 1 and self.isolated:
            return self.isolated[-1:]
        shared = tuple(core for core in self.allowed if core not in self.isolated)
        chosen = shared if len(shared) >= threads else self.allowed
        return chosen[-threads:]


def numbers(text: str) -> tuple[int, ...]:
    """Return the cores of a list as the kernel writes it, such as "1,3-5"."""
    return tuple(core for part in text.strip().split(",") if part for core in _range(part))


def _range(part: str) -> Iterator[int]:
    first, _, last = part.partition("-")
    yield from range(int(first), int(last or first) + 1)
