"""Hyper-parameters of our search, and switches that take a part away to see what it is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# What is decided when: all at once, or one kind of decision after the other.
Order = Literal["joint", "prune-first", "quantize-first"]


@dataclass(frozen=True, slots=True)
class FrontierSettings:
    """`[search.agent]` of strategy `frontier`."""

    # Targets between those asked for and the uncompressed network.
    between: int = 6
    # One in so many measurements goes to a target in between.
    front_every: int = 4
    # How much more a policy must promise for a target in between to be measured.
    margin: float = 0.02
    # Evaluations before the accuracy model is trusted, and how much more a removed channel weighs
    # in them than a lost bit, in turn for each target that was asked for.
    design: int = 8
    weights: tuple[float, ...] = (1.0, 0.3, 3.0, 0.1)
    # Standard deviations of hope, in turn.
    hope: tuple[float, ...] = (0.0, 0.5, 0.0, 1.0)
    population: int = 24
    offspring: int = 32
    generations: int = 50
    # Candidates whose programs are planned before one is chosen, in each of two rounds.
    planned: int = 16
    # Policies that the agents propose for each target, and steps of learning after each evolution.
    proposals: int = 16
    lessons: int = 20

    # Ablations: islands that begin without descents; evolution alone; low-level agents that see the
    # target and no budget of their block; features without hardware events; all layers equally
    # sensitive; nothing learned from evaluations; pruning and quantizing one after the other.
    descent: bool = True
    agents: bool = True
    high_level: bool = True
    counters: bool = True
    sensitivity: bool = True
    surrogate: bool = True
    order: Order = "joint"
