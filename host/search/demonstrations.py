"""Policies that an agent is shown before it decides: what is already known of a problem.

A hundred episodes are few for a deep network: independent draws hardly ever meet a good policy.
Some warm-up episodes therefore walk towards greedy policies (least sensitivity per saved
millisecond) around the target; the agent learns from their measured rewards as from any other.
"""

from __future__ import annotations

from host.policy import Policy
from host.search.baselines import Greedy
from host.search.strategy import Problem

# Latency goals of the demonstrations, as shares of the target: predictions are not exact.
GOALS = (1.0, 0.9, 1.1, 0.8, 1.2)


def demonstrations(problem: Problem, count: int) -> list[Policy]:
    """Return greedy policies for goals around the target; none where nothing predicts times."""
    if problem.layer_cost is None:
        return []
    goals = (GOALS[i % len(GOALS)] for i in range(count))
    return [Greedy(problem).towards(goal * problem.target) for goal in goals]
