"""Several boards as one: leases whichever is free, drops the dead and says why; never measures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from host.boards.client import BoardClient
from host.boards.session import BoardSession
from host.errors import AccessRefused, BoardBusy, BoardUnreachable, LeaseLost, VersionMismatch

POLL_S = 0.2


class Pool:
    """Boards by name; several threads may take sessions at once, one board each."""

    def __init__(self, boards: Mapping[str, BoardClient], holder: str) -> None:
        if not boards:
            raise ValueError("a pool needs at least one board")
        self._boards = dict(boards)
        self._holder = holder
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self.dropped: dict[str, str] = {}

    @contextmanager
    def session(self, wait_s: float = 0.0) -> Iterator[BoardSession]:
        """Yield a session on any free board; a board that fails meanwhile is dropped.

        Raises BoardBusy when all are taken for `wait_s`, BoardUnreachable when none is left.
        """
        with ExitStack() as stack:
            name, session = self._take(stack, time.monotonic() + wait_s)
            try:
                yield session
            except (AccessRefused, BoardUnreachable, LeaseLost) as e:
                self.dropped[name] = str(e)
                raise

    def _take(self, stack: ExitStack, until: float) -> tuple[str, BoardSession]:
        while True:
            busy = []
            for name in self._alive():
                if not self._reserve(name):
                    busy.append(f"{name}: in use here")
                    continue
                try:
                    return name, stack.enter_context(self._held(name))
                except BoardBusy as e:
                    busy.append(str(e))
                except (AccessRefused, BoardUnreachable, VersionMismatch) as e:
                    self.dropped[name] = str(e)
            self._wait(busy, until)

    def _wait(self, busy: list[str], until: float) -> None:
        """Sleep before the next round, or raise why there is none."""
        if not busy:
            raise BoardUnreachable(f"no board is left: {'; '.join(self.dropped.values())}")
        left = until - time.monotonic()
        if left <= 0:
            raise BoardBusy(f"every board is taken: {'; '.join(busy)}")
        time.sleep(min(POLL_S, left))

    def _alive(self) -> list[str]:
        return [name for name in self._boards if name not in self.dropped]

    def _reserve(self, name: str) -> bool:
        with self._lock:
            free = name not in self._taken
            self._taken.add(name)
            return free

    @contextmanager
    def _held(self, name: str) -> Iterator[BoardSession]:
        """Lease a reserved board; it is free for other threads once the lease is given back."""
        try:
            with self._boards[name].lease(self._holder) as session:
                yield session
        finally:
            with self._lock:
                self._taken.discard(name)
