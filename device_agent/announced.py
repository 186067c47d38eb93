"""What the holder of a lease has named: only that may be used under it; holds no bytes.

The disk keeps what earlier holders sent, so that nothing travels twice. That alone lets nobody
use it: whoever has not named a digest is told what he would be told if the board lacked it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from device_agent.errors import Missing, Rejected

MOST = 100_000


class Announced:
    """Digests that were named under one lease, the newest that named any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fence = 0
        self._digests: set[str] = set()

    def add(self, fence: int, digests: Iterable[str]) -> None:
        """Note digests that a lease names; raises Rejected for more than a board could hold."""
        with self._lock:
            if fence != self._fence:
                self._fence, self._digests = fence, set()
            self._digests.update(digests)
            if len(self._digests) > MOST:
                self._digests = set()
                raise Rejected(f"a lease names at most {MOST} blobs: acquire the board again")

    def check(self, fence: int, digests: Iterable[str]) -> None:
        """Raise Missing for the first digest that this lease has not named."""
        with self._lock:
            known = self._digests if fence == self._fence else set()
            for digest in digests:
                if digest not in known:
                    raise Missing(
                        f"{digest[:12]} was not announced under this lease: upload it first"
                    )
