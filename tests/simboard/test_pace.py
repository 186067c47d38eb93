"""Virtual time that passes for real: as long as it should, in few waits, and not when cancelled."""

from __future__ import annotations

import threading
import time

import pytest

from device_agent.errors import Cancelled
from hil_lab.simboard.pace import SLICE_S, Pace


def test_without_a_pace_nothing_is_waited_for() -> None:
    pace = Pace()
    pace.start()
    begun = time.monotonic()
    pace.passed(10**12)
    pace.settle()
    assert time.monotonic() - begun < 0.5


def test_real_time_keeps_up_with_virtual_time() -> None:
    pace = Pace(0.5)
    pace.start()
    begun = time.monotonic()
    for _ in range(200):
        pace.passed(2_000_000)
    pace.settle()
    assert 0.2 <= time.monotonic() - begun < 0.6


def test_a_board_that_is_behind_waits_for_nothing() -> None:
    now = [0.0]
    pace = Pace(1.0, lambda: now[0])
    pace.start()
    now[0] = 5.0
    # Whoever waits is told that the run was cancelled; who does not wait never hears of it.
    pace.end()
    pace.passed(round(4e9))
    pace.settle()
    with pytest.raises(Cancelled):
        pace.passed(round(2e9))


def test_short_times_are_not_waited_for_one_by_one() -> None:
    now = [0.0]
    pace = Pace(1.0, lambda: now[0])
    pace.start()
    begun = time.monotonic()
    pace.passed(round(SLICE_S * 0.9e9))
    assert time.monotonic() - begun < SLICE_S / 2


def test_somebody_else_ends_the_waiting() -> None:
    pace = Pace(1.0)
    pace.start()
    threading.Timer(0.2, pace.end).start()
    with pytest.raises(Cancelled):
        pace.passed(round(60e9))
    pace.start()
    pace.passed(1)
