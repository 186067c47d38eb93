"""The search methods that are compared: which strategy each is, its settings and its length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from host.registry import Registry

# Galen's own budget for the joint agent (paper, section 5).
GALEN_EPISODES, SHORT_EPISODES = 410, 100


@dataclass(frozen=True, slots=True)
class Method:
    """One entrant: `front` methods search once for all targets, the others once for each.

    `predicts` says whether it is given per-layer predictions, and `kernels` whether also those of
    kernels: the profiles behind them count as measurements.
    """

    name: str
    strategy: str
    episodes: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    front: bool = False
    predicts: bool = True
    kernels: bool = False


METHODS: Registry[Method] = Registry("search method")
for _method in (
    Method("ours", "frontier", 100, front=True, kernels=True),
    *(
        Method(f"ours-no-{part}", "frontier", 100, {part: False}, front=True, kernels=True)
        for part in ("sensitivity", "surrogate", "kernels")
    ),
    Method("hirelc", "hirelc", 100),
    Method("hirelc-on-target", "hirelc", 100, {"meet_target": True}),
    Method("galen-joint", "galen-joint", GALEN_EPISODES),
    Method(
        "galen-published",
        "galen-joint",
        GALEN_EPISODES,
        {"demonstrations": 0, "meet_target": False, "imitation": 0.0, "common_share": 0.0},
        predicts=False,
    ),
    # One of three that a front is compared with, each for a target of its own.
    Method("galen-short", "galen-joint", SHORT_EPISODES),
    Method("greedy", "greedy", 60),
    Method("tpe", "tpe", 100, predicts=False),
    Method("nsga2", "nsga2", 100, front=True, predicts=False),
    Method("random", "random", 100, predicts=False),
):
    METHODS.register(_method.name)(_method)


def methods(names: Iterable[str]) -> list[Method]:
    """Return methods by name, all of them for no names; raises CallerError for an unknown one."""
    return [METHODS[name] for name in (list(names) or METHODS)]
