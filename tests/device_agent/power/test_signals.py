"""Clocks compared by edges of a line, on recorded streams whose truth is known."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from device_agent.power.signals import Edges
from device_agent.power.stream import UNALIGNED_S
from tests.streams.bench import Bench

SWITCH_S = 20e-6  # how long the kernel takes to set a level


@dataclass
class Wire:
    """A line from a board to a meter that looks at it every `sample_s`, on its own clock."""

    bench: Bench
    sample_s: float
    phase_s: float = 0.0
    cut: bool = False
    level: bool = False
    edges: list[float] = field(default_factory=list)

    @contextmanager
    def output(self) -> Iterator[Wire]:
        """Begin low; whatever the level was before, that is an edge of nobody's."""
        self.edges.append(self.bench.now_s + self.bench.ahead_s)
        yield self

    def set(self, *, high: bool) -> None:
        """Take a moment, in the middle of which the level changes."""
        self.bench.now_s += SWITCH_S / 2
        if high != self.level and not self.cut:
            there_s = self.bench.now_s + self.bench.ahead_s - self.phase_s
            seen_s = math.ceil(there_s / self.sample_s) * self.sample_s + self.phase_s
            self.edges.append(seen_s)
        self.level = high
        self.bench.now_s += SWITCH_S / 2

    def seen(self) -> list[float]:
        """Hand over what the meter saw."""
        edges, self.edges = self.edges, []
        return edges

    def signal(self) -> Edges:
        """Return the way to compare clocks over this wire."""
        bench = self.bench
        return Edges(self.output, self.seen, self.sample_s, bench.sleep, bench.clock_s)


@pytest.mark.parametrize("sample_s", [1e-5, 1e-3, 0.01])
def test_a_known_offset_comes_out_within_a_sample_and_its_bound(sample_s: float) -> None:
    rng = np.random.default_rng(50_000)
    for _ in range(100):
        truth_s = float(rng.uniform(-5.0, 5.0))
        wire = Wire(Bench(truth_s), sample_s, phase_s=float(rng.uniform(0, sample_s)))
        found = wire.signal().offset(wire.bench.drain)
        assert found
        assert abs(found.seconds - truth_s) <= sample_s
        assert abs(found.seconds - truth_s) <= found.bound_s + 1e-9
        assert found.bound_s <= 1.01 * sample_s + SWITCH_S


def test_a_windows_joules_are_the_windows_whatever_the_meters_clock() -> None:
    bench = Bench(ahead_s=3.2)  # a chirp looks no further than two seconds
    meter = bench.meter(Wire(bench, 0.001).signal())
    assert meter.prepare() == ()
    assert meter.offset_s == pytest.approx(3.2, abs=0.001) and meter.delta_t_s < 0.002
    bench.sleep(3.0)
    meter.start()
    bench.sleep(10.0, 5.0)
    assert meter.stop().joules == pytest.approx(50.0, rel=0.005)


def test_a_wire_that_is_cut_is_said() -> None:
    bench = Bench(0.4)
    meter = bench.meter(Wire(bench, 0.001, cut=True).signal())
    assert meter.prepare() == (
        "meter usb: edges of the line were not seen, its clock is not aligned",
    )
    assert meter.delta_t_s == UNALIGNED_S


def test_a_line_that_somebody_took_is_said() -> None:
    bench = Bench(0.4)

    def taken() -> Wire:
        raise OSError(errno.EBUSY, "Device or resource busy")

    signal = Edges(taken, list, 0.001, bench.sleep, bench.clock_s)  # type: ignore[arg-type]
    (note,) = bench.meter(signal).prepare()
    assert note.startswith("meter usb: edges of the line were not given (Device or resource busy)")
