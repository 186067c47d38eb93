"""The search methods that are compared: which strategy each is, its settings and its length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from host.registry import Registry
from host.search.strategy import Need, strategies

# Galen's own budget for the joint agent (paper, section 5).
GALEN_EPISODES, SHORT_EPISODES = 410, 100
COMPOSITE_EPISODES = 200
# The targets of all searches, and of a front that is compared with one of Galen's for each.
SHARES, FRONT_SHARES = (0.3, 0.5), (0.3, 0.5, 0.7)


@dataclass(frozen=True, slots=True)
class Method:
    """One entrant: a strategy, its settings, and how long it may search.

    `given` are the costly fields of a problem that it gets, where not those that it asks for; the
    profiles behind predictions count as measurements. `shares` of fp32's latency are its targets.
    """

    name: str
    strategy: str
    episodes: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    given: frozenset[Need] | None = None
    shares: tuple[float, ...] = SHARES

    @property
    def front(self) -> bool:
        """Whether it searches once for all targets."""
        return strategies()[self.strategy].front

    @property
    def needs(self) -> frozenset[Need]:
        """The costly fields of a problem that it gets."""
        return strategies()[self.strategy].needs if self.given is None else self.given


METHODS: Registry[Method] = Registry("search method")
for _method in (
    Method("ours", "frontier", 100),
    Method("ours-no-descent", "frontier", 100, {"descent": False}),
    Method("ours-no-agents", "frontier", 100, {"agents": False}),
    Method("ours-no-high-level", "frontier", 100, {"high_level": False}),
    Method("ours-no-counters", "frontier", 100, {"counters": False}),
    Method("ours-prune-first", "frontier", 100, {"order": "prune-first"}),
    Method("ours-quantize-first", "frontier", 100, {"order": "quantize-first"}),
    Method("ours-no-sensitivity", "frontier", 100, {"sensitivity": False}),
    Method("ours-no-surrogate", "frontier", 100, {"surrogate": False}),
    Method("ours-no-kernels", "frontier", 100, given=frozenset({"layer_cost", "residuals"})),
    Method("hirelc", "hirelc", 100),
    Method("hirelc-on-target", "hirelc", 100, {"meet_target": True}),
    Method("galen-joint", "galen-joint", GALEN_EPISODES),
    Method(
        "galen-published",
        "galen-joint",
        GALEN_EPISODES,
        {"demonstrations": 0, "meet_target": False, "imitation": 0.0, "common_share": 0.0},
        given=frozenset({"sensitivity"}),
    ),
    Method("amc", "amc", GALEN_EPISODES),
    Method("haq", "haq", GALEN_EPISODES),
    # A front, and the three that it is compared with, each for a target of its own.
    Method("ours-three-targets", "frontier", 100, shares=FRONT_SHARES),
    Method("galen-short", "galen-joint", SHORT_EPISODES, shares=FRONT_SHARES),
    Method("greedy", "greedy", 60),
    Method("tpe", "tpe", 100),
    Method("nsga2", "nsga2", 100),
    Method("random", "random", 100),
):
    METHODS.register(_method.name)(_method)


# What saves energy, whole and without a part of it.
ENERGY_METHODS: Registry[Method] = Registry("energy method")
for _name, _settings in (
    ("composite", {}),
    ("composite-ddpg", {"parts": "ddpg"}),
    ("composite-rainbow", {"parts": "rainbow"}),
    ("composite-coarse", {"families": "coarse"}),
    ("composite-fine", {"families": "fine"}),
    ("composite-uniform", {"uniform_bits": 8}),
):
    ENERGY_METHODS.register(_name)(Method(_name, "composite", COMPOSITE_EPISODES, _settings))


def methods(names: Iterable[str], known: Registry[Method] = METHODS) -> list[Method]:
    """Return methods by name, all of them for no names; raises CallerError for an unknown one."""
    return [known[name] for name in (list(names) or known)]
