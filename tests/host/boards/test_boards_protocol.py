"""Verdicts: what makes a number trusted, suspect or invalid; and the values' round trips."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.boards.protocol import QUICK, REPORT, SEARCH, flags, judge
from host.boards.types import Measurement
from protos import board_pb2 as pb
from protos.convert import from_message, to_message
from protos.values import (
    Block,
    Conditions,
    Counter,
    Energy,
    KernelTiming,
    LayerCheck,
    Profile,
    TimingPlan,
    VerifyReport,
)

CALM = Conditions(0, 50.0, 1800.0, 0, effective_mhz=1799.0, nominal_mhz=1800.0)
GOOD = Block(tuple(1_000_000 + i for i in range(50)), 20, True, CALM, CALM)


def test_a_quiet_window_is_trusted() -> None:
    assert judge(SEARCH, [GOOD]) == ("trusted", ())


@pytest.mark.parametrize(
    ("change", "verdict", "reason"),
    [
        ({"samples_ns": (1_000_000,) * 5}, "invalid", "5 of 30 runs"),
        ({"end": replace(CALM, throttle_bits=1)}, "invalid", "under-voltage"),
        ({"start": replace(CALM, throttle_bits=4)}, "invalid", "throttled"),
        ({"end": replace(CALM, throttle_bits=0x40000)}, "suspect", "throttled during"),
        ({"settled": False}, "suspect", "did not settle"),
        ({"counters": (Counter("cycles", 1, 10, 5),)}, "suspect", "multiplexed"),
        ({"samples_ns": (*[1_000_000] * 999, 1_600_000)}, "suspect", "1.5 times"),
        ({"samples_ns": (1_000_000, 1_200_000) * 25}, "suspect", "standard deviation"),
        ({"notes": ("gate: 70 C",)}, "suspect", "gate: 70 C"),
    ],
)
def test_what_is_wrong_is_the_reason(change: dict[str, object], verdict: str, reason: str) -> None:
    got, reasons = judge(SEARCH, [replace(GOOD, **change)])
    assert got == verdict
    assert any(reason in r for r in reasons)


def test_a_missing_block_is_invalid() -> None:
    assert judge(REPORT, [GOOD] * 4) == ("invalid", ("4 of 5 blocks",))


def test_outliers_are_flagged_and_change_nothing() -> None:
    block = replace(GOOD, samples_ns=(*GOOD.samples_ns, 1_100_000), notes=("no counters",))
    assert flags([block]) == ("1 outliers", "no counters")
    assert judge(SEARCH, [block])[0] == "trusted"


def test_a_report_is_the_median_of_block_medians() -> None:
    blocks = tuple(replace(GOOD, samples_ns=(ms * 1_000_000,) * 10) for ms in (1, 2, 3, 4, 90))
    assert _measurement(blocks).latency_ms.median == 3.0


def test_energy_is_per_inference_with_and_without_idle() -> None:
    measured = _measurement((GOOD,), Energy(3.0, 1.0, 100, 10, "m", idle_w=2.0))
    assert measured.energy_mj == pytest.approx(30.0)
    assert measured.net_energy_mj == pytest.approx(10.0)
    assert _measurement((GOOD,)).energy_mj is None


def _measurement(blocks: tuple[Block, ...], energy: Energy | None = None) -> Measurement:
    return Measurement("a", "s", "b", {"kind": "x"}, QUICK, blocks, "trusted", energy=energy)


names = st.text(max_size=8)
counts = st.integers(0, 2**40)
reals = st.floats(allow_nan=False, allow_infinity=False)
conditions = st.builds(
    Conditions,
    counts,
    st.none() | reals,
    st.none() | reals,
    st.none() | st.integers(0, 2**20),
    st.none() | reals,
    st.none() | counts,
    names,
)
samples = st.lists(counts, max_size=5).map(tuple)
counters = st.lists(st.builds(Counter, names, counts, counts, counts), max_size=3).map(tuple)
timings = st.builds(
    KernelTiming, st.integers(0, 99), names, names, names, samples, counts, counters
)
MESSAGES = {
    pb.Block: st.builds(
        Block,
        samples,
        st.integers(0, 999),
        st.booleans(),
        st.none() | conditions,
        st.none() | conditions,
        counters,
        st.lists(names, max_size=3).map(tuple),
    ),
    pb.Energy: st.builds(Energy, reals, reals, counts, counts, names, st.none() | reals),
    pb.KernelTiming: timings,
    pb.ProfileReply: st.builds(
        Profile,
        st.lists(timings, max_size=2).map(tuple),
        samples,
        st.lists(names, max_size=2).map(tuple),
    ),
    pb.VerifyReport: st.builds(
        VerifyReport,
        st.lists(st.builds(LayerCheck, names, counts, counts, counts), max_size=2).map(tuple),
        reals,
        reals,
        reals,
    ),
}


@settings(deadline=None, max_examples=50)
@given(data=st.data())
@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.__name__)
def test_values_survive_the_wire(message: type, data: st.DataObject) -> None:
    value = data.draw(MESSAGES[message])
    wire = to_message(message, value).SerializeToString()
    assert from_message(type(value), message.FromString(wire)) == value


@pytest.mark.parametrize("plan", [SEARCH, REPORT, QUICK], ids=lambda p: p.mode)
def test_plans_survive_the_wire(plan: TimingPlan) -> None:
    assert from_message(TimingPlan, to_message(pb.TimingPlan, plan)) == plan
