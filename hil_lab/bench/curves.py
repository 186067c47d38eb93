"""What trials come to: best reward against measurements, over seeds, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hil_lab.bench.trace import Step, Trace
from host.cost import LATENCY
from host.search.reward import Reward

BUDGETS = (20, 30, 40, 60, 80, 100)
RESAMPLES = 2000
COVERED = 0.95


@dataclass(frozen=True, slots=True)
class Curve:
    """One trial seen from one target, in order of episodes.

    `best` is the highest reward among the measured programs so far, `measured` how many programs
    were measured by then, those before the search among them, and `evaluated` how many policies.
    """

    best: tuple[float, ...]
    measured: tuple[int, ...]
    evaluated: tuple[int, ...]

    @classmethod
    def of(cls, trace: Trace, reward: Reward, target_ms: float) -> Curve:
        """Return the curve of a trial; a program that was measured before costs nothing again."""
        best, measured, evaluated = [], [], []
        top, programs, policies = -np.inf, set[int](), set[int]()
        for step in trace.steps:
            policies.add(step.policy)
            if step.measured:
                programs.add(step.program)
                top = max(top, rewarded(step, reward, target_ms))
            best.append(float(top))
            measured.append(trace.before + len(programs))
            evaluated.append(len(policies))
        return cls(tuple(best), tuple(measured), tuple(evaluated))

    def at(self, measurements: int) -> float:
        """Return the best reward that so many measurements had found."""
        return max(
            (b for b, m in zip(self.best, self.measured, strict=True) if m <= measurements),
            default=-np.inf,
        )

    def reaches(self, reward: float) -> tuple[int, int] | None:
        """Return the measurements and evaluations that a reward took, None where it never came."""
        for best, measured, evaluated in zip(self.best, self.measured, self.evaluated, strict=True):
            if best >= reward:
                return measured, evaluated
        return None


def mean_at(curves: Sequence[Curve], budget: int) -> float:
    """Return the mean over seeds of what a budget of measurements found."""
    return float(np.mean([curve.at(budget) for curve in curves]))


def lead(ours: Sequence[Curve], others: Sequence[Curve], budget: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of our mean reward less theirs, over seeds."""
    rng = np.random.default_rng(0)
    means = []
    for curves in (ours, others):
        values = np.maximum([curve.at(budget) for curve in curves], -1e3)
        means.append(rng.choice(values, (RESAMPLES, len(values))).mean(1))
    low, high = np.quantile(means[0] - means[1], [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return float(low), float(high)


def rewarded(step: Step, reward: Reward, target_ms: float) -> float:
    """Return the reward of a step."""
    return reward(LATENCY.forecast(step.accuracy, step.latency_ms), target_ms)


def best_step(trace: Trace, reward: Reward, target_ms: float) -> Step:
    """Return the measured step of the highest reward, the first of equals."""
    measured = [step for step in trace.steps if step.measured]
    return max(measured, key=lambda step: rewarded(step, reward, target_ms))


def front(trace: Trace, measurements: int) -> list[tuple[float, float]]:
    """Return (milliseconds, accuracy) of what no other measured program beats in both."""
    points: list[tuple[float, float]] = []
    programs: set[int] = set()
    for step in trace.steps:
        if step.measured:
            programs.add(step.program)
            if len(programs) > measurements:
                break
            points.append((step.latency_ms, step.accuracy))
    best: list[tuple[float, float]] = []
    for ms, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or accuracy > best[-1][1]:
            best.append((ms, accuracy))
    return best


def accuracy_within(points: Sequence[tuple[float, float]], ms: float) -> float:
    """Return the best accuracy of a front within a latency, 0 where nothing is so fast."""
    return max((accuracy for at, accuracy in points if at <= ms), default=0.0)


def reached(
    ours: Mapping[int, Curve], others: Mapping[int, Curve]
) -> list[tuple[float, float, float]]:
    """Return, seed by seed, our shares of what a whole other search spent.

    Our measurements and our evaluations over its episodes, each of which is published as one of
    both, and our measurements over the distinct programs that it measured here, where equal ones
    come from a cache. Infinite where its final reward was never reached.
    """
    shares = []
    for seed, other in others.items():
        if seed not in ours:
            continue
        found, episodes = ours[seed].reaches(other.best[-1]), len(other.best)
        if found is None:
            shares.append((np.inf, np.inf, np.inf))
        else:
            measured, evaluated = found
            shares.append(
                (measured / episodes, evaluated / episodes, measured / other.measured[-1])
            )
    return shares
