"""The ask/tell protocol of every strategy, what one is made from, and the registry of names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from host.cost import LATENCY, Cost
from host.policy import Policy, Space
from host.registry import Registry
from host.search.reward import Reward
from host.sensitivity.table import Kind
from host.surrogate.scorecard import Foretold
from host.types import Evaluation, Figure

# Nested dictionaries of tensors, numbers, strings and lists: what a checkpoint can hold.
State = dict[str, Any]


class EnergyOf(Protocol):
    """Tells the energy of policies: a modelled accelerator's, or a board's own joules."""

    def of(self, policy: Policy, evaluation: Evaluation) -> float:
        """Return the energy of one inference of an evaluated policy in millijoules."""

    def shares(self, policy: Policy) -> Mapping[str, float]:
        """Return the energy of every layer as a share of the whole uncompressed network's."""


@dataclass(frozen=True)
class Problem:
    """What a strategy may know: the legal policies, the goal, and cheap proxies.

    Targets and costs are in the unit of `cost`; `targets` are all that a search of a whole front is
    to serve. `layer_cost(policy)` predicts the cost of every layer, for strategies that weigh
    layers before anything is measured; `program_cost(policy)` does so from the kernels of the
    policy's program, exact to about a percent, some milliseconds each; bytes are exact in both.

    `sensitivity[layer][kind]` are numbers in [0, 1] for the kinds prune, act, weight and int8, each
    with a fixed length; `residuals[layer][kind]`, shaped alike, are the squared errors that solving
    a layer's weights anew cannot make up for, over the variance of its outputs. `fisher[layer]` is
    the mean empirical Fisher information of its parameters; `proxy(policy)` is the mean squared
    error of a policy's logits on the calibration images, untrained, without labels.
    `size_bytes(policy)` is exactly what the artifact of a policy will hold in packed weights,
    scales and tables, without building it. `energy` tells the millijoules of policies.
    `counters[layer][event]` are hardware events of one inference of the uncompressed program, those
    that the board counts. `loose[layer]` are the per cent of its weights that can go, by the noise
    that they bear.
    """

    space: Space
    reward: Reward
    target: float
    reference: float
    episodes: int
    seed: int
    cost: Cost = LATENCY
    sensitivity: Mapping[str, Mapping[Kind, tuple[float, ...]]] = field(default_factory=dict)
    layer_cost: Callable[[Policy], Mapping[str, float]] | None = None
    program_cost: Callable[[Policy], Mapping[str, float]] | None = None
    targets: tuple[float, ...] = ()
    residuals: Mapping[str, Mapping[Kind, Sequence[float]]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    fisher: Mapping[str, float] = field(default_factory=dict)
    proxy: Callable[[Policy], float] | None = None
    counters: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    size_bytes: Callable[[Policy], int] | None = None
    energy: EnergyOf | None = None
    loose: Mapping[str, int] = field(default_factory=dict)

    def score(self, evaluation: Evaluation) -> float:
        """Return the reward of an evaluation."""
        return self.reward(evaluation, self.target)


class Strategy(Protocol):
    """Proposes policies one at a time and learns from what they turn out to be."""

    def ask(self) -> Policy:
        """Return the next policy to evaluate."""

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        """Learn from the evaluation of the policy asked last."""

    def state_dict(self) -> State:
        """Return all that a new strategy of the same problem needs to go on."""

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""


@runtime_checkable
class Sparing(Strategy, Protocol):
    """A strategy that knows when a board need not be asked: what is not worth it is predicted."""

    def worth(self, policy: Policy, accuracy: float) -> bool:
        """Return whether a policy of known accuracy should be measured."""

    def predict(self, policy: Policy) -> Figure:
        """Return the predicted cost in the problem's unit, with bounds."""


@runtime_checkable
class Judging(Strategy, Protocol):
    """A strategy with a reward of its own, by which its best episode is chosen too."""

    def judge(self, policy: Policy, evaluation: Evaluation) -> float:
        """Return the reward of a policy that was asked but not told yet."""


@runtime_checkable
class Staged(Strategy, Protocol):
    """A strategy whose later policies start from a network that was trained on the way."""

    @property
    def start(self) -> Policy | None:
        """The policy whose trained network the policy asked last starts from, pruned alike.

        None: it starts from the given network.
        """


@runtime_checkable
class AskMany(Strategy, Protocol):
    """A strategy that can propose several policies before it is told of the first of them."""

    def ask_many(self, count: int) -> list[Policy]:
        """Return the next policies, `count` of them; they are told in this order.

        One is what `ask` returns. No state is kept between asking and the last telling.
        """


@runtime_checkable
class Forecasting(Strategy, Protocol):
    """A strategy that can say what it expects of a policy that was not evaluated yet."""

    def foretell(self, policy: Policy) -> Foretold | None:
        """Return what is expected of a policy that was just asked; None while nothing is known.

        It changes nothing: a search that is not asked goes on the same.
        """


# Fields of a problem that cost a board or a workstation something: made for who asks for them.
Need = Literal[
    "sensitivity",
    "layer_cost",
    "program_cost",
    "residuals",
    "fisher",
    "proxy",
    "counters",
    "energy",
    "loose",
]
Make = Callable[[Problem], Strategy]


@dataclass(frozen=True, slots=True)
class Entry:
    """A strategy as it is registered: all that others must know of it.

    `settings` is what `[search.agent]` fills, None where it takes nothing; one search of a `front`
    serves all targets; `needs` are the costly fields of a problem that it wants.
    """

    make: Make
    settings: type | None = None
    front: bool = False
    needs: frozenset[Need] = frozenset()


STRATEGIES: Registry[Entry] = Registry("strategy")


def strategy(
    name: str,
    *,
    settings: type | None = None,
    front: bool = False,
    needs: Iterable[Need] = (),
) -> Callable[[Make], Make]:
    """Register what makes a strategy under a name."""

    def add(make: Make) -> Make:
        STRATEGIES.register(name)(Entry(make, settings, front, frozenset(needs)))
        return make

    return add


def strategies() -> Registry[Entry]:
    """Return the strategies by name."""
    import host.search.amc
    import host.search.baselines
    import host.search.composite
    import host.search.frontier.strategy
    import host.search.galen
    import host.search.haq
    import host.search.hirelc.strategy
    import host.search.two_stage  # noqa: F401  fills the registry

    return STRATEGIES


def make_strategy(name: str, problem: Problem) -> Strategy:
    """Return a strategy by name; raises CallerError with a hint for an unknown one."""
    return strategies()[name].make(problem)
