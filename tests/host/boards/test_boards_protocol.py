"""Verdicts: what makes a number trusted, suspect or invalid; and the values' round trips."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.boards.protocol import COMPARE, QUICK, REPORT, SEARCH, flags, judge
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
    Receipt,
    TimingPlan,
    VerifyReport,
)
from protos.verdict import judge_energy

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
        ({"throttle_seen": 4}, "invalid", "throttled"),
        ({"throttle_seen": 0x40000}, "suspect", "throttled during"),
        ({"start": replace(CALM, effective_mhz=1500.0)}, "invalid", "1500 MHz instead of 1800"),
        ({"end": replace(CALM, effective_mhz=1780.0)}, "invalid", "1780 MHz instead of 1800"),
        ({"hottest_c": 61.0}, "suspect", "temperature moved by 10 C"),
        ({"counters": (Counter("cycles", 1_500, 1_000, 1_000),)}, "suspect", "window's cycles"),
        ({"samples_ns": (1_000_000,) * 25 + (1_200_000,) * 25}, "invalid", "moved by 5 %"),
        ({"samples_ns": tuple(1_000_000 + 700 * i for i in range(50))}, "suspect", "moved by 2 %"),
        ({"samples_ns": (1_000_000, 1_040_000) * 25}, "suspect", "two modes"),
    ],
)
def test_what_is_wrong_is_the_reason(change: dict[str, object], verdict: str, reason: str) -> None:
    got, reasons = judge(SEARCH, [replace(GOOD, **change)])
    assert got == verdict
    assert any(reason in r for r in reasons)


def test_what_cannot_be_known_is_no_reason_to_doubt() -> None:
    blind = Conditions(0)
    block = replace(GOOD, start=blind, end=blind)
    assert judge(SEARCH, [block]) == ("trusted", ())
    assert flags([block]) == ("the effective clock is unknown",)


def test_an_anchor_that_moved_between_the_blocks_makes_them_suspect() -> None:
    slower = replace(GOOD, samples_ns=tuple(round(1.03 * ns) for ns in GOOD.samples_ns))
    verdict, reasons = judge(SEARCH, [GOOD], [GOOD, GOOD, slower])
    assert (verdict, reasons) == ("suspect", ("the anchor's medians differ by over 2%",))
    assert judge(SEARCH, [GOOD], [GOOD, GOOD, GOOD]) == ("trusted", ())


ENERGY = Energy(50.0, 10.0, 100, 2000, "m", 2.0, 2.1, delta_t_s=0.005)


@pytest.mark.parametrize(
    ("change", "verdict", "reason"),
    [
        ({}, "trusted", ""),
        ({"readings": 0}, "trusted", ""),  # a counter in hardware
        ({"lost": 3}, "suspect", "0.1% of the power readings were lost"),
        ({"active_s": 9.0}, "suspect", "less than 10 s"),
        ({"readings": 900}, "suspect", "fewer than 1000"),
        ({"delta_t_s": 1.0}, "suspect", "error is over 5%"),
        ({"idle_after_w": 3.0}, "suspect", "idle power before and after"),
        ({"inferences": 0}, "invalid", "no energy"),
    ],
)
def test_joules_have_a_verdict_of_their_own(
    change: dict[str, object], verdict: str, reason: str
) -> None:
    got, reasons = judge_energy(replace(ENERGY, **change))
    assert got == verdict
    assert any(reason in r for r in reasons) or not reason


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
    bounded = _measurement((GOOD,), ENERGY)
    assert bounded.energy_error_mj == pytest.approx(2 * 0.005 * (5.0 - 2.05) / 100 * 1e3)
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
    st.none() | reals,
    st.none() | reals,
)
samples = st.lists(counts, max_size=5).map(tuple)
runs = st.integers(0, 2**20)
counters = st.lists(st.builds(Counter, names, counts, counts, counts, runs), max_size=3).map(tuple)
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
        st.none() | st.integers(0, 2**20),
        st.none() | reals,
    ),
    pb.Energy: st.builds(
        Energy,
        *(reals, reals, counts, counts, names, st.none() | reals, st.none() | reals, counts),
        windows=st.integers(0, 99),
        delta_t_s=reals,
        resolution_w=reals,
    ),
    pb.Receipt: st.builds(Receipt, names, names, names, names),
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


@pytest.mark.parametrize("plan", [SEARCH, REPORT, QUICK, COMPARE], ids=lambda p: p.mode)
def test_plans_survive_the_wire(plan: TimingPlan) -> None:
    assert from_message(TimingPlan, to_message(pb.TimingPlan, plan)) == plan
