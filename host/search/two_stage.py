"""Two stages (Zhan, Lin, Cao 2019, arXiv 1912.02254): prune, train, then quantize.

In the first stage an agent walks the layers and sets how many channels stay, while the smallest
weights go in every layer, as many as bear noise (variational pruning). It learns from accuracy and
from what is left, both counted after both kinds of pruning: multiplications, or weights. The best
network of the first stage is trained; in the second stage another agent walks its layers for their
bits, which are lowered until the predicted cost is within the target.

The paper's agents and rewards are not known: these are those of AMC, in both of its forms, and of
HAQ. Nothing is measured in the first stage, whose networks are no results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from host.cost import Cost
from host.errors import RecipeError
from host.policy import Choice, Policy, policy_macs, policy_weights, uncompressed
from host.search.amc import AMC
from host.search.episode import is_measured
from host.search.haq import HAQ
from host.search.layerwise import LayerwiseSettings
from host.search.settings import WHERE, settings_from
from host.search.strategy import Problem, State, strategy
from host.types import Evaluation, Figure

# As host.compress.patterns registers it, which the search does not import.
MAGNITUDE = "magnitude"


@dataclass(frozen=True, slots=True)
class TwoStageSettings(LayerwiseSettings):
    """`[search.agent]` of strategy `two-stage`.

    The first stage has the share `first` of all episodes and leaves, `constrained`, at most the
    share `left` of what it `counts`; `guaranteed`, accuracy and what is left are learned together.
    """

    form: Literal["constrained", "guaranteed"] = "constrained"
    counts: Literal["weights", "macs"] = "weights"
    left: float = 0.1
    first: float = 0.5
    least_kept: float = 0.1
    least_bits: int = 2

    def __post_init__(self) -> None:
        for name in ("left", "first"):
            if not 0 < getattr(self, name) <= 1:
                raise RecipeError(f"{name}: must lie in (0, 1], got {getattr(self, name)}")

    def shared(self) -> dict[str, Any]:
        """Return what both agents are set to."""
        return {f.name: getattr(self, f.name) for f in fields(LayerwiseSettings)}


# What an evaluation of the first stage counts.
LEFT = Cost("what is left", "", "macs")


@strategy("two-stage", settings=TwoStageSettings, needs=("layer_cost", "program_cost", "loose"))
class TwoStage:
    """AMC with loose weights gone, then HAQ on its best network."""

    def __init__(self, problem: Problem) -> None:
        self.settings = s = settings_from(TwoStageSettings, problem.settings)
        self.problem = problem
        self.first = max(round(s.first * problem.episodes), 1)
        if self.first >= problem.episodes:
            raise RecipeError(f"{WHERE}.first: leaves the second stage no episode")
        self.whole = sum(self._left(uncompressed(problem.space.graph)).values())
        self.pruning = AMC(self._first_problem())
        self.quantizing = HAQ(self._second_problem())
        self.told = 0
        self.best: tuple[float, Policy] | None = None
        self.measured: float | None = None

    @property
    def start(self) -> Policy | None:
        """The network of the second stage, once the first is over."""
        return self.best[1] if self.best and self.told >= self.first else None

    def ask(self) -> Policy:
        """Ask the agent of the present stage."""
        return self.pruning.ask() if self.start is None else self.quantizing.ask()

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        """Tell the agent of the stage that the policy is of."""
        if self.start is None:
            self._tell_first(policy, evaluation)
        else:
            self.quantizing.tell(policy, evaluation)
            if is_measured(evaluation):
                score = self.problem.score(evaluation)
                self.measured = score if self.measured is None else max(self.measured, score)
        self.told += 1
        self._settle()

    def _tell_first(self, policy: Policy, evaluation: Evaluation) -> None:
        left = replace(evaluation, macs=round(sum(self._left(policy).values())))
        self.pruning.tell(policy, left)
        reward = self.pruning.reward(left)
        if self.best is None or reward > self.best[0]:
            self.best = reward, policy

    def _settle(self) -> None:
        """Give the second agent the network that the first stage came to."""
        if self.start is not None:
            self.quantizing.problem = self._second_problem(self.start)

    def worth(self, policy: Policy, accuracy: float) -> bool:
        """Whether a program of the second stage promises more than those that were measured."""
        if self.start is None:
            return False
        forecast = self.problem.cost.forecast(accuracy, self._cost(policy))
        return self.measured is None or self.problem.score(forecast) > self.measured

    def predict(self, policy: Policy) -> Figure:
        """Return the predicted cost."""
        return Figure(self._cost(policy), "predicted")

    def _cost(self, policy: Policy) -> float:
        predict = self.problem.program_cost or self.problem.layer_cost
        if predict is None:
            raise RecipeError("two-stage: predicted costs are missing")
        return sum(predict(policy).values())

    def _first_problem(self) -> Problem:
        s, problem = self.settings, self.problem
        loose = {name: _thin(None, zeros) for name, zeros in problem.loose.items()}
        budget = s.left if s.form == "constrained" else 1.0
        return replace(
            problem,
            space=replace(problem.space, decided=loose),
            cost=LEFT,
            layer_cost=self._left,
            target=budget * self.whole,
            reference=self.whole,
            episodes=self.first,
            settings={**s.shared(), "least_kept": s.least_kept, "reward": s.form},
        )

    def _second_problem(self, start: Policy | None = None) -> Problem:
        s, problem = self.settings, self.problem
        # What went is zero in the trained network, and so the smallest.
        layers = start.layers if start else ()
        decided = {p.layer: _thin(p.keep, p.zeros) for p in layers}
        return replace(
            problem,
            space=replace(problem.space, decided=decided),
            episodes=problem.episodes - self.first,
            settings={**s.shared(), "least_bits": s.least_bits},
        )

    def _left(self, policy: Policy) -> Mapping[str, float]:
        graph = self.problem.space.graph
        if self.settings.counts == "weights":
            return policy_weights(graph, policy)
        macs = policy_macs(graph, policy)
        return {p.layer: macs[p.layer] * (1 - p.zeros / 100) for p in policy.layers}

    def state_dict(self) -> State:
        """Return both agents and the best network of the first stage."""
        return {
            "pruning": self.pruning.state_dict(),
            "quantizing": self.quantizing.state_dict(),
            "told": self.told,
            "best": [self.best[0], self.best[1].to_dict()] if self.best else None,
            "measured": self.measured,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        self.pruning.load_state_dict(state["pruning"])
        self.quantizing.load_state_dict(state["quantizing"])
        self.told, best, self.measured = state["told"], state["best"], state["measured"]
        self.best = (float(best[0]), Policy.from_dict(best[1])) if best else None
        self._settle()


def _thin(keep: int | None, zeros: int) -> Choice:
    """Return what is decided of a layer; without zeros only its channels are chosen."""
    return Choice(keep, pruner=MAGNITUDE, zeros=zeros) if zeros else Choice(keep)
