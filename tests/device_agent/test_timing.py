"""Warm-up and samples on a fake clock: exact, so nothing here can be flaky."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from device_agent.timing import half_width_ratio, sample, take_block, warm_up
from host.boards.protocol import QUICK, SEARCH
from protos.values import TimingPlan

MS = 1_000_000


class Program:
    """Takes the given milliseconds, run after run; the last one for ever."""

    def __init__(self, durations_ms: Iterable[float]) -> None:
        durations = list(durations_ms)
        self._durations = itertools.chain(durations, itertools.repeat(durations[-1]))
        self.now_ns = 0
        self.runs = 0

    def __call__(self) -> None:
        self.now_ns += int(next(self._durations) * MS)
        self.runs += 1

    def clock_ns(self) -> int:
        return self.now_ns


def test_every_sample_is_kept_in_order() -> None:
    program = Program([5, 6, 7])
    samples = sample(program, SEARCH, program.clock_ns)
    assert samples[:4] == [5 * MS, 6 * MS, 7 * MS, 7 * MS]
    assert len(samples) == program.runs


def test_sampling_takes_at_least_the_runs_and_the_seconds() -> None:
    slow, fast = Program([100]), Program([1])
    assert len(sample(slow, SEARCH, slow.clock_ns)) == 30
    samples = sample(fast, SEARCH, fast.clock_ns)
    assert sum(samples) >= 1e9


def test_noisy_samples_extend_to_the_cap_and_no_further() -> None:
    program = Program(itertools.islice(itertools.cycle([10, 20]), 4000))
    samples = sample(program, SEARCH, program.clock_ns)
    assert 10.0 <= sum(samples) / 1e9 <= 12.0


def test_the_warm_up_lasts_until_the_medians_agree() -> None:
    program = Program([*(300 - 10 * i for i in range(20)), 100])
    runs, settled = warm_up(program, SEARCH, program.clock_ns)
    assert settled
    assert runs == 30  # the last two medians of five are both of the flat part


def test_a_warm_up_that_never_settles_says_so() -> None:
    growing = Program(1.05**i for i in range(400))
    runs, settled = warm_up(growing, SEARCH, growing.clock_ns)
    assert not settled and growing.now_ns >= 10e9
    assert runs == growing.runs


def test_phases_are_reported_in_order() -> None:
    program, phases = Program([1]), list[str]()
    block = take_block(program, QUICK, program.clock_ns, phases.append)
    assert phases == ["warmup", "sample", "sampled"]
    assert block.settled and block.warmup_runs + len(block.samples_ns) == program.runs


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=200))
def test_the_half_width_is_never_negative_and_zero_for_equal_samples(samples: list[int]) -> None:
    assert half_width_ratio(samples) >= 0
    assert half_width_ratio([samples[0]] * len(samples)) == 0


def test_a_plan_without_runs_is_impossible() -> None:
    try:
        TimingPlan(1, "x", 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0)
    except ValueError as e:
        assert "at least 1 run" in str(e)
    else:
        raise AssertionError("accepted")
