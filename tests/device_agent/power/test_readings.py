"""Readings to joules: trapezoids, trimmed edges, and what was lost."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.power.readings import energy, lost, window
from protos.values import Energy


def steady(watts: float, seconds: float, period_s: float = 0.01) -> list[tuple[float, float]]:
    return [(float(t), watts) for t in np.arange(0, seconds + period_s / 2, period_s)]


def test_power_is_integrated_by_trapezoids() -> None:
    assert energy([(0.0, 2.0), (1.0, 4.0), (3.0, 4.0)]) == 11.0


def test_a_steady_window_is_watts_times_its_seconds() -> None:
    found = window(steady(4.0, 12.0), 1.0, 11.0)
    assert (found.joules, found.seconds, found.lost) == (pytest.approx(40.0), 10.0, 0)


def test_the_edges_of_a_window_do_not_count() -> None:
    edges = [(t, 2.0 if t < 0.15 or t > 9.85 else 5.0) for t, _ in steady(0.0, 10.0)]
    assert window(edges, 0.0, 10.0).joules == pytest.approx(50.0)
    assert window(edges, 0.0, 10.0, trim_s=0.0).joules < 49.5


def test_a_short_window_is_not_trimmed_away() -> None:
    assert window(steady(3.0, 0.3), 0.0, 0.3).joules == pytest.approx(0.9)


@pytest.mark.parametrize("missing", [1, 7, 100])
def test_every_lost_reading_is_counted(missing: int) -> None:
    readings = steady(3.0, 10.0)
    assert lost(readings) == 0
    assert lost(readings[:300] + readings[300 + missing :]) == missing


def test_nothing_read_is_no_energy() -> None:
    assert window([], 0.0, 1.0).joules == 0.0


def test_the_error_is_two_edges_times_the_step_of_power_and_the_meters_step() -> None:
    made = Energy(
        50.0, 10.0, 100, 1000, "m", 2.0, 3.0, windows=2, delta_t_s=0.01, resolution_w=0.02
    )
    assert made.idle_mean_w == 2.5
    assert made.error_j == pytest.approx(2 * 0.01 * (5.0 - 2.5) * 2 + 0.02 * 10.0)
