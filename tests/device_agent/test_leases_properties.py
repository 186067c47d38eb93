"""The lease state machine under any order of events, on a fake clock: what must always hold."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from device_agent.errors import Busy, NotYourLease
from device_agent.leases import Lease, Leases
from device_agent.waiting import PATIENCE_S

TTL_S = 20.0
HOSTS = st.sampled_from(["ann", "bob", "cy", "dee"])


class LeaseMachine(RuleBasedStateMachine):
    """Hosts that ask, renew, release and die; a model beside it knows who may hold the board."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.folder = tempfile.TemporaryDirectory()
        self.leases = self._booted()
        self.granted: list[Lease] = []
        self.tickets: dict[str, str] = {}
        self.asked: dict[str, tuple[float, float]] = {}  # ticket -> first and last time
        self.count = 0

    def teardown(self) -> None:
        self.folder.cleanup()

    def _booted(self) -> Leases:
        return Leases(Path(self.folder.name) / "fence", lambda: self.now)

    def _alive(self, lease: Lease) -> bool:
        try:
            self.leases.check(lease.fence, lease.secret)
        except NotYourLease:
            return False
        return True

    def _waiting(self) -> list[str]:
        """Tickets of those that still ask, in the order of coming."""
        live = [(came, t) for t, (came, last) in self.asked.items() if self.now - last < PATIENCE_S]
        return [ticket for _, ticket in sorted(live)]

    def _ticket(self, host: str) -> str:
        if host not in self.tickets:
            self.count += 1
            self.tickets[host] = f"{host}-{self.count:04d}"
        return self.tickets[host]

    @rule(host=HOSTS)
    def ask(self, host: str) -> None:
        """Ask and wait; only who came first of those that still ask may be granted."""
        ticket, waiting, held = self._ticket(host), self._waiting(), self.leases.current()
        if ticket not in waiting:
            self.asked.pop(ticket, None)
        try:
            lease = self.leases.acquire(host, TTL_S, ticket, wait=True)
        except Busy as e:
            came = self.asked.get(ticket, (self.now, 0.0))[0]
            self.asked[ticket] = (came, self.now)
            others = [t for t in waiting if t != ticket]
            assert held is not None or others
            assert e.place == self._waiting().index(ticket) + 1
            self.now += 0.001  # no two come at once
            return
        assert held is None or held.nonce == ticket
        if held is None:
            assert waiting[:1] in ([], [ticket]), "first come, first served"
            self._grant(lease, host)

    @rule(host=HOSTS)
    def snatch(self, host: str) -> None:
        """Ask without waiting: never before those that wait."""
        waiting, held = self._waiting(), self.leases.current()
        try:
            lease = self.leases.acquire(host, TTL_S, "")
        except Busy as e:
            assert (held is not None or waiting) and not e.place
            return
        assert held is None and not waiting
        self._grant(lease, "")

    def _grant(self, lease: Lease, host: str) -> None:
        assert all(lease.fence > before.fence for before in self.granted), "fences only grow"
        self.granted.append(lease)
        self.asked.pop(self.tickets.pop(host, ""), None)

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def renew(self, data: Any) -> None:
        """Heartbeats of any holder, past ones too: only the live one is extended."""
        lease = data.draw(st.sampled_from(self.granted[-4:]))
        live = self._alive(lease)
        try:
            renewed = self.leases.renew(lease.fence, lease.secret)
        except NotYourLease:
            assert not live
        else:
            assert live and renewed.expires_s == self.now + TTL_S

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        """What a past holder gives back is not the present one's."""
        lease, held = data.draw(st.sampled_from(self.granted[-4:])), self.leases.current()
        self.leases.release(lease.fence, lease.secret)
        assert not self._alive(lease)
        if held is not None and held.fence != lease.fence:
            assert self.leases.current() == held

    @rule()
    def end(self) -> None:
        """An administrator ends whatever lease there is."""
        held = self.leases.current()
        assert self.leases.end() == held
        assert self.leases.current() is None

    @rule(seconds=st.sampled_from([0.5, 3.0, PATIENCE_S, TTL_S, 60.0]))
    def wait(self, seconds: float) -> None:
        """Time passes; without a heartbeat for its ttl a lease is over."""
        held = self.leases.current()
        self.now += seconds
        if held is not None:
            assert (self.leases.current() is None) == (self.now >= held.expires_s)

    @rule()
    def reboot(self) -> None:
        """The agent starts anew: leases and places are gone, the fence is not."""
        self.leases = self._booted()
        self.asked.clear()

    @invariant()
    def at_most_one_holds(self) -> None:
        assert sum(self._alive(lease) for lease in self.granted) <= 1

    @invariant()
    def those_who_left_do_not_count(self) -> None:
        assert self.leases.waiting() == len(self._waiting())


TestLeases = LeaseMachine.TestCase
TestLeases.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
