"""The heartbeat of one lease, in a thread; never takes a new one."""

from __future__ import annotations

import threading
from collections.abc import Callable

from host.boards.types import BoardInfo, Lease
from host.errors import BoardError, HilError, LeaseLost

# What a lease is of, and the lease.
Hold = tuple[BoardInfo, Lease]
Again = Callable[[BoardInfo, BoardError], Hold]


def gone(info: BoardInfo, why: BoardError) -> Hold:
    """Take a board that went away to be gone."""
    raise why


class Heart:
    """Renews a lease three times in its ttl; `lost` says why there is nothing to renew any more."""

    def __init__(self, lease: Lease, renew: Callable[[], object]) -> None:
        self.lost: LeaseLost | None = None
        self._renew = renew
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(lease.ttl_s / 3,), daemon=True)
        self._thread.start()

    def stop(self, wait_s: float) -> None:
        """Beat no more, and wait so long for the last beat."""
        self._ended.set()
        self._thread.join(timeout=wait_s)

    def _beat(self, period_s: float) -> None:
        while not self._ended.wait(period_s):
            try:
                self._renew()
            except LeaseLost as e:
                self.lost = e
                return
            except HilError:
                continue
