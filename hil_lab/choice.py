"""Which of several boards to take when not all are wanted; leases none."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hil_lab.inventory import open_board
from host.errors import CallerError, HilError

# The sooner one could measure the better; whoever is busy is worth waiting for, a dead one is not.
RANKS = {"free": 0, "leased": 1, "measuring": 1, "quarantined": 2}
UNREACHABLE = 3


def at_most(count: int, names: Sequence[str]) -> tuple[str, ...]:
    """Return at most so many boards, in their order: free ones first, then the shortest queues.

    0 takes all of them.
    """
    if count < 0:
        raise CallerError(f"--boards must be at least 1, got {count}")
    if not count or len(names) <= count:
        return tuple(names)
    with ThreadPoolExecutor(len(names)) as pool:
        ranks = dict(zip(names, pool.map(_rank, names), strict=True))
    chosen = set(sorted(names, key=lambda name: (ranks[name], names.index(name)))[:count])
    return tuple(name for name in names if name in chosen)


def _rank(name: str) -> tuple[int, int]:
    try:
        with open_board(name) as client:
            info = client.describe()
    except HilError:
        return UNREACHABLE, 0
    return RANKS.get(info.state, UNREACHABLE), info.queue_length
