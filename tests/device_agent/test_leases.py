"""Leases: exclusive, with heartbeat, expiry and a fence that only grows; on a fake clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.errors import Busy, NotYourLease, Rejected
from device_agent.leases import Leases


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(tmp_path: Path, clock: Clock) -> Leases:
    return Leases(tmp_path / "fence", clock)


def test_a_second_holder_is_told_who_and_how_long(leases: Leases) -> None:
    leases.acquire("first", 60, "a")
    with pytest.raises(Busy, match="leased by first for another 60 s"):
        leases.acquire("second", 60, "b")


def test_a_retry_with_the_same_nonce_gets_the_same_lease(leases: Leases) -> None:
    assert leases.acquire("first", 60, "a") == leases.acquire("first", 60, "a")


def test_an_empty_nonce_is_no_retry(leases: Leases) -> None:
    leases.acquire("first", 60, "")
    with pytest.raises(Busy):
        leases.acquire("second", 60, "")


def test_a_lease_expires_by_itself(leases: Leases, clock: Clock) -> None:
    old = leases.acquire("first", 60, "a")
    clock.now = 60.0
    assert leases.current() is None
    with pytest.raises(NotYourLease, match="expired"):
        leases.check(old.fence, old.secret)


def test_a_heartbeat_keeps_it_alive(leases: Leases, clock: Clock) -> None:
    lease = leases.acquire("first", 60, "a")
    for clock.now in (50.0, 100.0, 150.0):
        lease = leases.renew(lease.fence, lease.secret)
    assert leases.remaining_s() == 60.0


def test_the_old_holder_is_fenced_off_by_the_new_one(leases: Leases, clock: Clock) -> None:
    old = leases.acquire("first", 10, "a")
    clock.now = 10.0
    new = leases.acquire("second", 10, "b")
    assert new.fence > old.fence
    with pytest.raises(NotYourLease, match="taken over by second"):
        leases.renew(old.fence, old.secret)


def test_the_fence_grows_over_restarts(tmp_path: Path) -> None:
    fences = [Leases(tmp_path / "fence").acquire("x", 1, "").fence for _ in range(3)]
    assert fences == [1, 2, 3]


def test_a_guessed_secret_is_refused(leases: Leases) -> None:
    lease = leases.acquire("first", 60, "a")
    with pytest.raises(NotYourLease):
        leases.check(lease.fence, "guess")


def test_release_frees_the_board_at_once(leases: Leases) -> None:
    lease = leases.acquire("first", 60, "a")
    leases.release(lease.fence, lease.secret)
    leases.release(lease.fence, lease.secret)
    assert leases.acquire("second", 60, "b").holder == "second"


@pytest.mark.parametrize("ttl_s", [0, -1, 1e9, float("nan")])
def test_an_impossible_ttl_is_refused(leases: Leases, ttl_s: float) -> None:
    with pytest.raises(Rejected):
        leases.acquire("first", ttl_s, "a")


@pytest.mark.parametrize("holder", ["x" * 201, "me\x1b[2J", "a\nb"])
def test_a_holder_that_a_terminal_could_not_show_is_refused(holder: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="characters that can be shown"):
        Leases(tmp_path / "fence").acquire(holder, 3.0, "")
