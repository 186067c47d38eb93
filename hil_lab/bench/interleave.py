"""Timing contenders in turn, so that what slows the machine slows all of them; knows no runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

WARM_UP_ROUNDS = 5
# Threads of a runtime spin for a while after its last call, in the way of the next contender's.
SPIN_S = 0.02

Samples = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Interleave:
    """How turns are timed: every turn runs its contender twice, of which the second counts.

    So each finds its own data near, as in a loop of its own. `rest_s` passes before a turn.
    """

    rounds: int
    rest_s: float = 0.0
    clock_ns: Callable[[], int] = time.perf_counter_ns
    sleep: Callable[[float], None] = time.sleep

    def samples_ms(
        self, runners: Mapping[str, Callable[[], Any]], on_round: Callable[[int], None]
    ) -> Samples:
        """Return the milliseconds of every contender's call, one a round."""
        samples: dict[str, list[float]] = {name: [] for name in runners}
        for done in range(WARM_UP_ROUNDS + self.rounds):
            for name, run in runners.items():
                took_ms = self._turn(run)
                if done >= WARM_UP_ROUNDS:
                    samples[name].append(took_ms)
            on_round(max(done + 1 - WARM_UP_ROUNDS, 0))
        return {name: tuple(values) for name, values in samples.items()}

    def _turn(self, run: Callable[[], Any]) -> float:
        if self.rest_s:
            self.sleep(self.rest_s)
        run()
        start = self.clock_ns()
        run()
        return (self.clock_ns() - start) / 1e6


def turns(threads: int, rounds: int) -> Interleave:
    """Return how to time contenders of so many threads."""
    return Interleave(rounds, SPIN_S if threads > 1 else 0.0)
