"""The offset of a meter's clock, from generated streams whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.power.align import PULSE_S, PULSES, chirp_offset, edge_offset
from device_agent.power.stream import UNALIGNED_S
from tests.streams.bench import Bench

SEEDS = range(40_000, 40_200)


def chirp(
    seed: int, load_w: float = 1.0
) -> tuple[list[tuple[float, float]], list[tuple[float, float]], float]:
    """Return readings, pulses and the true offset of a case."""
    rng = np.random.default_rng(seed)
    offset, period_s = float(rng.uniform(-1.5, 1.5)), float(rng.uniform(0.004, 0.012))
    pulses = [(10 + 2 * PULSE_S * i, 10 + 2 * PULSE_S * i + PULSE_S) for i in range(PULSES)]
    t = np.arange(6.0, 16.0, period_s)
    watts = np.full(t.size, 2.3) + rng.normal(0.0, 0.15, t.size)
    for on, off in pulses:
        watts[(t - offset >= on) & (t - offset < off)] += load_w
    return list(zip(t.tolist(), watts.tolist(), strict=True)), pulses, offset


def test_the_offset_lies_within_its_bound_in_99_of_100_cases() -> None:
    right = 0
    for seed in SEEDS:
        readings, pulses, truth = chirp(seed)
        found = chirp_offset(readings, pulses)
        assert found and found.bound_s < 0.02
        right += abs(found.seconds - truth) <= found.bound_s
    assert right >= 0.99 * len(SEEDS)


def test_no_chirp_is_no_offset() -> None:
    assert all(chirp_offset(*chirp(seed, load_w=0.0)[:2]) is None for seed in SEEDS[:50])


def test_edges_of_a_pin_give_the_offset_and_its_bound() -> None:
    found = edge_offset([1.0, 2.0, 3.0], [1.5, 2.501, 3.499])
    assert found and found.seconds == pytest.approx(0.5)
    assert found.bound_s == pytest.approx(0.001)
    assert edge_offset([1.0, 2.0], [1.5]) is None


@pytest.mark.parametrize("ahead_s", [-0.7, 0.0, 1.3])
def test_a_windows_joules_are_the_windows_whatever_the_meters_clock(ahead_s: float) -> None:
    bench = Bench(ahead_s)
    meter = bench.meter()
    assert meter.prepare() == ()
    assert meter.offset_s == pytest.approx(ahead_s, abs=meter.delta_t_s)
    bench.sleep(3.0)
    meter.start()
    bench.sleep(10.0, 5.0)
    window = meter.stop()
    assert window.joules == pytest.approx(50.0, rel=0.005)
    assert window.lost == 0


def test_a_meter_that_saw_no_chirp_says_so_and_has_a_wide_bound() -> None:
    meter = Bench(0.4, load_w=0.0).meter()
    assert meter.prepare() == ("meter usb: the chirp was not seen, its clock is not aligned",)
    assert meter.delta_t_s == UNALIGNED_S
