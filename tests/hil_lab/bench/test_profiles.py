"""The profile benchmark: what its bar is on, and that it runs through the real agent."""

from __future__ import annotations

import pytest

from hil_lab.bench.networks import NETWORKS, BenchNetwork
from hil_lab.bench.profiles import Truth, report
from hil_lab.bench.report import Options
from hil_lab.console import Silent
from protos.values import KernelTiming, Profile


def truth(*end_to_end_ns: int) -> Truth:
    kernels = tuple(KernelTiming(i, "c", "l", "k", (900, 1100, 1000), 40) for i in range(2))
    return Truth("net", "fp32", Profile(kernels, end_to_end_ns))


@pytest.mark.parametrize(("whole_ns", "holds"), [(2000, True), (1910, True), (2200, False)])
def test_the_bar_is_on_the_distance_in_either_direction(whole_ns: int, holds: bool) -> None:
    show = truth(whole_ns).show()
    assert show.value == pytest.approx(abs(2000 - whole_ns) / whole_ns)
    assert (show.bar, show.holds) == (0.05, holds)


def test_raw_samples_and_the_instruments_part_are_kept() -> None:
    kept = truth(2000, 2001).to_dict()
    assert kept["profile"]["end_to_end_ns"] == (2000, 2001)
    assert kept["sums_ns"] == (1800, 2200, 2000)
    assert kept["instrument_us"] == 0.08
    assert truth(2000).row()[2:6] == ["2", "2.0 us", "2.0 us", "+0.0%"]


@pytest.mark.tvm
def test_programs_are_profiled_by_the_agent_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiny = BenchNetwork("tiny", "digits-cnn", (1, 8, 8))
    monkeypatch.setitem(NETWORKS._factories, "tiny", tiny)
    done = report(Options(["tiny"], Silent(), rounds=3))
    profiles = done.to_dict()["profiles"]
    assert [p["format"] for p in profiles] == ["fp32", "int8"]
    assert all(len(p["sums_ns"]) == 3 for p in profiles)
    assert len(done.shows) == 2
