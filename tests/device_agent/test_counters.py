"""Counters over a recorded perf layer: passes, raw codes, multiplexing, and what is not there."""

from __future__ import annotations

import pytest

from device_agent.counters import (
    CORTEX_A72,
    DEFAULT_COUNTERS,
    GENERIC,
    effective_mhz,
    event,
    in_passes,
    opened,
)
from device_agent.perf import HARDWARE, RAW
from tests.device_agent.recorded_perf import RecordedPerf

CYCLES = (HARDWARE, 0)
ALL = {event(name, "aarch64"): [(1000, 500, 500)] for name in DEFAULT_COUNTERS["aarch64"]}


def test_the_a72_counts_in_two_passes_of_six_beside_the_cycles() -> None:
    first, second = in_passes(DEFAULT_COUNTERS["aarch64"])
    assert first == [
        "cycles",
        "instructions", "l1d_cache", "l1d_refill", "l2d_cache", "l2d_refill", "bus_access",
    ]  # fmt: skip
    assert second == ["ase_spec", "ld_spec", "st_spec", "br_mis_pred", "l1i_refill", "dtlb_refill"]


def test_raw_codes_are_those_of_the_a72() -> None:
    # Arm, Cortex-A72 TRM, section 11.8.
    assert event("l2d_refill", "aarch64") == (RAW, 0x17)
    assert event("ase_spec", "aarch64") == (RAW, 0x74)
    assert event("r0x60", "aarch64") == (RAW, 0x60)
    assert set(DEFAULT_COUNTERS["aarch64"]) == {"cycles", "instructions", *CORTEX_A72}


def test_no_event_is_invented_on_another_machine() -> None:
    assert set(DEFAULT_COUNTERS["x86_64"]) == set(GENERIC)
    with pytest.raises(KeyError):
        event("l2d_refill", "x86_64")


def test_one_pass_runs_at_a_time_and_all_are_closed() -> None:
    perf = RecordedPerf(ALL)
    with opened(DEFAULT_COUNTERS["aarch64"], "aarch64", perf) as counters:
        for each in counters.passes:
            each.start()
            each.stop()
    running: set[int] = set()
    most = 0
    for request, file in perf.log:
        running = running | {file} if request == "enable" else running - {file}
        most = max(most, len(running))
    assert most == 7
    assert sorted(perf.closed) == list(range(13))


def test_a_count_knows_its_runs() -> None:
    with opened(("instructions",), "aarch64", RecordedPerf(ALL)) as counters:
        (found,) = counters.passes[0].read(30)
    assert (found.name, found.value, found.runs, found.multiplexed) == (
        "instructions",
        1000,
        30,
        False,
    )


def test_a_multiplexed_event_is_scaled_and_says_so() -> None:
    perf = RecordedPerf({CYCLES: [(600, 1000, 250)]})
    with opened(("cycles",), "aarch64", perf) as counters:
        (found,) = counters.passes[0].read()
    assert found.value == 2400 and found.multiplexed


def test_an_event_that_never_ran_is_absent_and_named_never_zero() -> None:
    perf = RecordedPerf({CYCLES: [(0, 1000, 0)]})
    with opened(("cycles",), "aarch64", perf) as counters:
        found = counters.passes[0].read()
        assert found == ()
        assert counters.silent(found) == ("counter cycles: never ran",)


def test_what_the_machine_lacks_is_a_note_with_its_reason() -> None:
    perf = RecordedPerf({CYCLES: [(1, 1, 1)]})
    with opened(("cycles", "l2d_cache", "nonsense"), "aarch64", perf) as counters:
        assert counters.passes[0].names == ("cycles",)
    assert counters.notes == (
        "counter l2d_cache: No such file or directory",
        "counter nonsense: unknown on aarch64",
    )


def test_the_effective_clock_is_cycles_over_busy_time() -> None:
    perf = RecordedPerf({CYCLES: [(30_000_000, 20_000_000, 20_000_000)]})
    assert effective_mhz(perf, "aarch64") == pytest.approx(1500.0)


def test_without_a_cycle_counter_the_clock_is_unknown() -> None:
    assert effective_mhz(RecordedPerf({}), "aarch64") is None
    assert effective_mhz(RecordedPerf({CYCLES: [(0, 10, 0)]}), "aarch64") is None
