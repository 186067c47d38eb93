"""Profiles: what the instrument takes is taken off, and what is not known is absent, not zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from device_agent.counters import Reading, counted
from device_agent.errors import Rejected
from device_agent.profile import profile
from device_agent.program import Watch
from protos.values import Counter, KernelTiming, Profile

KERNEL_NS = {"a": 1000, "b": 50}
IN_NS, OUT_NS = 30, 7  # the instrument, on the way to a hook and back from it


@dataclass
class FakeMachine:
    """A clock and two events that move only while something runs."""

    now_ns: int = 0

    def spend(self, ns: int) -> None:
        self.now_ns += ns

    def clock_ns(self) -> int:
        return self.now_ns


@dataclass
class FakeCounters:
    """Events of a fake machine: one follows its clock, one is never scheduled."""

    machine: FakeMachine
    names: tuple[str, ...] = ("cycles", "lost")
    notes: tuple[str, ...] = ("counter x: no such thing",)
    log: list[str] = field(default_factory=list)

    @property
    def passes(self) -> tuple[FakeCounters, ...]:
        return (self,) if self.names else ()

    def start(self) -> None:
        self.log.append("start")

    def stop(self) -> None:
        self.log.append("stop")

    def readings(self) -> tuple[Reading, ...]:
        now = self.machine.now_ns
        return ((2 * now, now, now), (0, now, 0))[: len(self.names)]

    def silent(self, counted: Any) -> tuple[str, ...]:
        heard = {counter.name for counter in counted}
        return tuple(f"counter {name}: never ran" for name in self.names if name not in heard)


class SharedCounters(FakeCounters):
    """An event that runs half of the time."""

    def readings(self) -> tuple[Reading, ...]:
        now = self.machine.now_ns
        return ((now, now, now // 2),)


@dataclass
class FakeProgram:
    """Two kernels, with a call of the runtime before each; hooks cost what they cost."""

    machine: FakeMachine
    order: tuple[str, ...] = ("a", "b", "a")
    watch: Watch | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        rows = [{"call": c, "layer": f"layer {c}", "kind": "k"} for c in ("a", "b", "a")]
        return {"kernels": rows}

    def example(self) -> np.ndarray:
        return np.zeros(1, np.float32)

    def bound(self, inputs: np.ndarray) -> Callable[[], None]:
        return self._run

    def watched(self, invoke: Callable[[], None], watch: Watch) -> None:
        self.watch = watch
        invoke()
        self.watch = None
        watch.finish()

    def _run(self) -> None:
        for name in self.order:
            self._hooked("alloc", 5)
            self._hooked(name, KERNEL_NS[name])

    def _hooked(self, name: str, ns: int) -> None:
        for before in (True, False):
            if not before:
                self.machine.spend(ns)
            if self.watch:
                self.machine.spend(IN_NS)
                self.watch(None, name, before, None)
                self.machine.spend(OUT_NS)


def taken(names: tuple[str, ...] = (), **more: Any) -> tuple[Profile, FakeCounters]:
    machine = FakeMachine()
    counters = FakeCounters(machine, names)
    program: Any = FakeProgram(machine, **more)
    opened: Any = counters
    return profile(program, 3, machine.clock_ns, opened), counters


def test_a_kernel_takes_what_it_takes_without_the_instrument() -> None:
    result, _ = taken()
    assert [k.samples_ns for k in result.kernels] == [(1000,) * 3, (50,) * 3, (1000,) * 3]
    assert {k.instrument_ns for k in result.kernels} == {IN_NS + OUT_NS}
    assert [k.layer for k in result.kernels] == ["layer a", "layer b", "layer a"]


def test_the_whole_is_timed_without_a_watch() -> None:
    result, _ = taken()
    assert result.end_to_end_ns == (2050 + 3 * 5,) * 3
    assert result.sums_ns == (2050,) * 3
    assert result.excess_ratio == pytest.approx(-15 / 2065)


def test_events_are_counted_over_all_repeats_less_the_instruments() -> None:
    result, counters = taken(("cycles",))
    assert counters.log == ["start", "stop"]
    values = [[(c.name, c.value) for c in k.counters] for k in result.kernels]
    assert values == [[("cycles", 6000)], [("cycles", 300)], [("cycles", 6000)]]


def test_an_event_that_never_ran_is_absent_and_named() -> None:
    result, _ = taken(("cycles", "lost"))
    assert all([c.name for c in k.counters] == ["cycles"] for k in result.kernels)
    assert result.notes == ("counter x: no such thing", "counter lost: never ran")


def test_an_event_that_shared_its_register_is_named() -> None:
    machine = FakeMachine()
    program: Any = FakeProgram(machine)
    shared: Any = SharedCounters(machine, ("cycles",))
    assert "counter cycles: multiplexed, its counts are estimates" in (
        profile(program, 3, machine.clock_ns, shared).notes
    )


def test_without_counters_nothing_is_counted() -> None:
    result, counters = taken()
    assert counters.log == []
    assert all(kernel.counters == () for kernel in result.kernels)


def test_a_call_that_the_table_has_elsewhere_is_refused() -> None:
    with pytest.raises(Rejected, match="call 1 is a"):
        taken(order=("a", "a", "b"))


def test_a_profile_without_plain_runs_cannot_be_held_against_the_whole() -> None:
    kernel = KernelTiming(0, "a", "l", "k", (3000, 1000, 2000))
    assert kernel.median_us == 2.0
    assert Profile((kernel,)).excess_ratio is None


def test_a_multiplexed_event_is_scaled_and_one_that_never_ran_is_none() -> None:
    assert counted("cycles", (100, 50, 25)) == Counter("cycles", 200, 50, 25)
    assert counted("cycles", (100, 50, 50)) == Counter("cycles", 100, 50, 50)
    assert counted("cycles", (0, 50, 0)) is None
