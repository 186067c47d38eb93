"""Turns: who runs when, what counts, and how long a machine rests between contenders."""

from __future__ import annotations

from hil_lab.bench.interleave import SPIN_S, WARM_UP_ROUNDS, Interleave, turns


class FakeClock:
    def __init__(self) -> None:
        self.now_ns = 0
        self.log: list[str] = []

    def __call__(self) -> int:
        return self.now_ns

    def contender(self, name: str, *costs_ms: int) -> object:
        costs = iter(costs_ms * 100)

        def run() -> None:
            self.log.append(name)
            self.now_ns += next(costs) * 1_000_000

        return run


def test_the_second_call_of_a_turn_counts() -> None:
    clock = FakeClock()
    runners = {"a": clock.contender("a", 9, 2), "b": clock.contender("b", 5, 4)}
    rounds: list[int] = []
    samples = Interleave(3, clock_ns=clock).samples_ms(runners, rounds.append)  # type: ignore[arg-type]
    assert samples == {"a": (2.0,) * 3, "b": (4.0,) * 3}
    assert clock.log == ["a", "a", "b", "b"] * (WARM_UP_ROUNDS + 3)
    assert rounds[-3:] == [1, 2, 3]


def test_threads_get_time_to_stop_spinning() -> None:
    clock, rests = FakeClock(), []
    timing = Interleave(1, SPIN_S, clock, rests.append)
    timing.samples_ms({"a": clock.contender("a", 1)}, lambda _: None)  # type: ignore[dict-item]
    assert rests == [SPIN_S] * (WARM_UP_ROUNDS + 1)
    assert turns(1, 5).rest_s == 0
    assert turns(2, 5).rest_s == SPIN_S
