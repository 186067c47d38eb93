"""Exclusive use of the board: heartbeat, expiry, fencing token; never knows what is run.

The fence grows with every lease, also over restarts, so a holder from before is never mistaken
for the present one.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_agent.errors import Busy, NotYourLease, Rejected

MAX_TTL_S = 3600.0
MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class Lease:
    """One holder's exclusive use until `expires_s` of the lease clock."""

    fence: int
    secret: str = field(repr=False)
    holder: str
    nonce: str
    ttl_s: float
    expires_s: float


class Leases:
    """At most one live lease; the clock is in seconds and never goes back."""

    def __init__(self, fence_file: Path, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._fence_file = fence_file
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._lease: Lease | None = None

    def current(self) -> Lease | None:
        """Return the live lease, if any."""
        lease = self._lease
        return lease if lease and self._clock_s() < lease.expires_s else None

    def remaining_s(self) -> float:
        """Return the seconds until the live lease expires, 0 when there is none."""
        lease = self.current()
        return max(0.0, lease.expires_s - self._clock_s()) if lease else 0.0

    def acquire(self, holder: str, ttl_s: float, nonce: str) -> Lease:
        """Grant the board, or raise Busy; the same nonce gets the same lease again."""
        if not 0 < ttl_s <= MAX_TTL_S:
            raise Rejected(f"a lease lasts more than 0 and at most {MAX_TTL_S:g} s, not {ttl_s:g}")
        if len(holder) > MAX_NAME or len(nonce) > MAX_NAME or not holder.isprintable():
            raise Rejected(f"a holder is named by at most {MAX_NAME} characters that can be shown")
        with self._lock:
            live = self.current()
            if live and not (nonce and live.nonce == nonce):
                raise Busy(f"leased by {live.holder} for another {self.remaining_s():.0f} s")
            if live:
                return live
            expires_s = self._clock_s() + ttl_s
            secret = secrets.token_hex(16)
            self._lease = Lease(self._next_fence(), secret, holder, nonce, ttl_s, expires_s)
            return self._lease

    def renew(self, fence: int, secret: str) -> Lease:
        """Extend the lease by its ttl from now."""
        with self._lock:
            lease = self._checked(fence, secret)
            self._lease = replace(lease, expires_s=self._clock_s() + lease.ttl_s)
            return self._lease

    def release(self, fence: int, secret: str) -> None:
        """End the lease; ending one that is already gone is not an error."""
        with self._lock:
            lease = self._lease
            if lease and (lease.fence, lease.secret) == (fence, secret):
                self._lease = None

    def check(self, fence: int, secret: str) -> Lease:
        """Return the live lease of this token; raises NotYourLease otherwise."""
        with self._lock:
            return self._checked(fence, secret)

    def _checked(self, fence: int, secret: str) -> Lease:
        live = self.current()
        if live is None:
            raise NotYourLease("no lease, or it expired: acquire the board again")
        if live.fence != fence or not secrets.compare_digest(live.secret, secret):
            raise NotYourLease(f"the lease was taken over by {live.holder}")
        return live

    def _next_fence(self) -> int:
        try:
            last = int(self._fence_file.read_text())
        except (FileNotFoundError, ValueError):
            last = 0
        self._fence_file.write_text(str(last + 1))
        return last + 1
