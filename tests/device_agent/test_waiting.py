"""The queue and its estimates."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.errors import Busy
from device_agent.leases import Leases
from device_agent.waiting import MOST, PATIENCE_S, History, Queue, duration, ordinal, place_text


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


def held(leases: Leases, clock: Clock, seconds: float) -> None:
    """Let a lease last so long."""
    lease = leases.acquire("earlier", 3600, "")
    clock.now += seconds
    leases.release(lease.fence, lease.secret)


def test_a_refusal_says_place_and_estimate(leases: Leases, clock: Clock) -> None:
    held(leases, clock, 300)
    leases.acquire("ann", 3600, "a")
    clock.now += 60
    with pytest.raises(Busy, match=r"leased by ann .*; 1st in the queue, about 4 min"):
        leases.acquire("bob", 60, "b", wait=True)
    with pytest.raises(Busy, match="2nd in the queue, about 9 min") as caught:
        leases.acquire("cy", 60, "c", wait=True)
    assert (caught.value.place, caught.value.wait_s) == (2, 540)
    assert caught.value.details == (("hil-place", "2"), ("hil-wait-s", "540"))


def test_a_newcomer_is_told_about_how_long_without_standing_in_the_queue(
    leases: Leases, clock: Clock
) -> None:
    assert leases.wait_s() == 0
    held(leases, clock, 300)
    assert leases.wait_s() == 0
    leases.acquire("ann", 3600, "a")
    clock.now += 60
    assert leases.wait_s() == 240
    with pytest.raises(Busy):
        leases.acquire("bob", 60, "b", wait=True)
    assert leases.wait_s() == 540
    assert leases.waiting() == 1


def test_how_long_leases_lasted_is_known_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    kept = tmp_path / "lasted"
    held(Leases(tmp_path / "fence", clock, History(kept)), clock, 300)
    restarted = Leases(tmp_path / "fence", clock, History(kept))
    restarted.acquire("ann", 3600, "a")
    with pytest.raises(Busy, match="1st in the queue, about 5 min"):
        restarted.acquire("bob", 60, "b", wait=True)


@pytest.mark.parametrize("content", [b"", b"12\nno number\n", b"\xff\x00", b"nan\n-3\ninf\n"])
def test_a_spoiled_history_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    kept = tmp_path / "lasted"
    kept.write_bytes(content)
    history = History(kept)
    assert history.wait_s(None, 1) is None
    history.add(60)
    assert History(kept).wait_s(None, 1) == 60


def test_a_lease_ends_where_its_length_cannot_be_kept(tmp_path: Path, clock: Clock) -> None:
    leases = Leases(tmp_path / "fence", clock, History(tmp_path / "gone" / "lasted"))
    held(leases, clock, 300)
    assert leases.current() is None and leases.wait_s() == 0


def test_nobody_knows_how_long_before_a_lease_has_ended(leases: Leases) -> None:
    leases.acquire("ann", 60, "a")
    with pytest.raises(Busy, match=r"1st in the queue$"):
        leases.acquire("bob", 60, "b", wait=True)


def test_the_board_goes_to_who_waited_longest(leases: Leases) -> None:
    lease = leases.acquire("ann", 60, "a")
    for name in ("bob", "cy"):
        with pytest.raises(Busy):
            leases.acquire(name, 60, name, wait=True)
    leases.release(lease.fence, lease.secret)
    with pytest.raises(Busy, match="kept for bob, who waited for it; 2nd in the queue"):
        leases.acquire("cy", 60, "cy", wait=True)
    assert leases.acquire("bob", 60, "bob", wait=True).holder == "bob"
    assert leases.waiting() == 1


def test_a_waiter_that_stops_asking_loses_its_place(leases: Leases, clock: Clock) -> None:
    lease = leases.acquire("ann", 3600, "a")
    with pytest.raises(Busy):
        leases.acquire("bob", 60, "b", wait=True)
    clock.now += PATIENCE_S
    leases.release(lease.fence, lease.secret)
    assert leases.acquire("cy", 60, "c").holder == "cy"


def test_asking_without_waiting_gives_the_place_up(leases: Leases) -> None:
    leases.acquire("ann", 60, "a")
    for wait in (True, False):
        with pytest.raises(Busy):
            leases.acquire("bob", 60, "b", wait=wait)
    assert leases.waiting() == 0


def test_a_queue_has_an_end() -> None:
    queue = Queue()
    for number in range(MOST):
        queue.ask(str(number), "x", 0.0)
    with pytest.raises(Busy, match="wait for the board already"):
        queue.ask("more", "x", 0.0)


@pytest.mark.parametrize(
    ("lasted_s", "held_s", "ahead", "expected_s"),
    [
        ((), 5.0, 0, None),
        ((100.0, 200.0, 300.0), 0.0, 0, 200.0),
        ((100.0, 200.0, 300.0), 150.0, 0, 100.0),
        ((100.0, 200.0, 300.0), 400.0, 0, 400.0),
        ((100.0, 200.0, 300.0), None, 2, 400.0),
    ],
)
def test_an_estimate_is_of_leases_that_lasted_as_long(
    lasted_s: tuple[float, ...], held_s: float | None, ahead: int, expected_s: float | None
) -> None:
    history = History()
    for seconds in lasted_s:
        history.add(seconds)
    assert history.wait_s(held_s, ahead) == expected_s


def test_places_and_durations_read_as_people_say_them() -> None:
    numbers = (1, 2, 3, 4, 11, 12, 13, 21, 112)
    assert [ordinal(n) for n in numbers] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th",
    ]  # fmt: skip
    assert [duration(s) for s in (7, 240, 7200)] == ["7 s", "4 min", "2.0 h"]
    assert place_text(3, None) == "3rd in the queue"
