"""Exclusive use of the board: heartbeat, expiry, fencing token, queue; never knows what is run.

The fence grows with every lease, also over restarts, so a holder from before is never mistaken
for the present one. Who waits is served in the order of coming (waiting.py).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_agent.durable import write_durably
from device_agent.errors import Busy, NotYourLease, Rejected
from device_agent.waiting import History, Queue, place_text

MAX_TTL_S = 3600.0
MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class Lease:
    """One holder's exclusive use from `granted_s` until `expires_s` of the lease clock."""

    fence: int
    secret: str = field(repr=False)
    holder: str
    nonce: str
    ttl_s: float
    expires_s: float
    granted_s: float = 0.0


class Leases:
    """At most one live lease; the clock is in seconds and never goes back."""

    def __init__(
        self,
        fence_file: Path,
        clock_s: Callable[[], float] = time.monotonic,
        history: History | None = None,
    ) -> None:
        self._fence_file = fence_file
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._queue = Queue()
        self._history = history or History()

    def current(self) -> Lease | None:
        """Return the live lease, if any."""
        lease = self._lease
        return lease if lease and self._clock_s() < lease.expires_s else None

    def remaining_s(self) -> float:
        """Return the seconds until the live lease expires, 0 when there is none."""
        lease = self.current()
        return max(0.0, lease.expires_s - self._clock_s()) if lease else 0.0

    def held_s(self) -> float:
        """Return how long the live lease has been held, 0 when there is none."""
        lease = self.current()
        return self._clock_s() - lease.granted_s if lease else 0.0

    def wait_s(self) -> float | None:
        """Return about how long somebody who asks now would wait; None where nobody can tell."""
        with self._lock:
            now_s = self._clock_s()
            self._settle(now_s)
            lease, ahead = self._lease, len(self._queue)
            if lease is None and not ahead:
                return 0.0
            return self._history.wait_s(now_s - lease.granted_s if lease else None, ahead)

    def waiting(self) -> int:
        """Return how many wait for the board."""
        with self._lock:
            self._queue.forget_silent(self._clock_s())
            return len(self._queue)

    def acquire(self, holder: str, ttl_s: float, nonce: str, *, wait: bool = False) -> Lease:
        """Grant the board, or raise Busy; the same nonce gets the same lease again.

        With `wait` a refused caller keeps a place in the queue by asking again; one that asks
        without it gives its place up.
        """
        _check_names(holder, ttl_s, nonce)
        with self._lock:
            now_s = self._clock_s()
            self._settle(now_s)
            if self._lease and nonce and self._lease.nonce == nonce:
                return self._lease
            first = self._queue.first
            if self._lease or (first and first.ticket != nonce):
                raise self._refusal(holder, nonce if wait else "", nonce, now_s)
            self._queue.leave(nonce)
            secret, expires_s = secrets.token_hex(16), now_s + ttl_s
            fence = self._next_fence()
            self._lease = Lease(fence, secret, holder, nonce, ttl_s, expires_s, now_s)
            return self._lease

    def end(self) -> Lease | None:
        """End whoever's lease there is, and return it."""
        with self._lock:
            self._settle(self._clock_s())
            ended = self._lease
            self._ended(self._clock_s())
            return ended

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
                self._ended(min(self._clock_s(), lease.expires_s))

    def check(self, fence: int, secret: str) -> Lease:
        """Return the live lease of this token; raises NotYourLease otherwise."""
        with self._lock:
            return self._checked(fence, secret)

    def _settle(self, now_s: float) -> None:
        """Note what ended by itself: a lease that expired, and places of those who left."""
        if self._lease and now_s >= self._lease.expires_s:
            self._ended(self._lease.expires_s)
        self._queue.forget_silent(now_s)

    def _ended(self, at_s: float) -> None:
        if self._lease:
            self._history.add(at_s - self._lease.granted_s)
        self._lease = None

    def _refusal(self, holder: str, ticket: str, nonce: str, now_s: float) -> Busy:
        """Return why not, with the place of one that waits."""
        lease, first = self._lease, self._queue.first
        if lease:
            why = f"leased by {lease.holder} for another {lease.expires_s - now_s:.0f} s"
        else:
            why = f"kept for {first.holder if first else 'the next'}, who waited for it"
        if not ticket:
            self._queue.leave(nonce)
            return Busy(why)
        place = self._queue.ask(ticket, holder, now_s)
        wait_s = self._history.wait_s(now_s - lease.granted_s if lease else None, place - 1)
        return Busy(f"{why}; {place_text(place, wait_s)}", place, wait_s)

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
        write_durably(self._fence_file, str(last + 1).encode())
        return last + 1


def _check_names(holder: str, ttl_s: float, nonce: str) -> None:
    if not 0 < ttl_s <= MAX_TTL_S:
        raise Rejected(f"a lease lasts more than 0 and at most {MAX_TTL_S:g} s, not {ttl_s:g}")
    if len(holder) > MAX_NAME or len(nonce) > MAX_NAME or not holder.isprintable():
        raise Rejected(f"a holder is named by at most {MAX_NAME} characters that can be shown")
