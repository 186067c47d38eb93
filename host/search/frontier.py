"""Our search: one front for all targets, from few measurements, guided by surrogates.

Accuracy is forecast from what solving cannot make up for (host.surrogate.accuracy), latency and
energy from the kernels of the program (host.kernel_times), corrected by every measurement; bytes
are counted. Between two
evaluations a population for each target evolves on the forecasts; then the policy that promises
most for one of the targets is made exact and scored, and measured where that is worth it. Targets
take turns: those that were asked for, and others in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from scipy.stats import norm

from host.blocks import blocks
from host.encoding import Batch, Encoding, Floats, Harms, Ints, join
from host.errors import RecipeError
from host.policy import Policy, uncompressed
from host.search.episode import is_measured
from host.search.islands import Islands, IslandSettings
from host.search.settings import settings_from
from host.search.strategy import Problem, State, strategy
from host.surrogate.accuracy import AccuracyModel
from host.surrogate.cost import Correction, LayerCosts, ProgramCost, shares
from host.surrogate.scorecard import COVERED, Expected, Foretold
from host.types import Evaluation, Figure

# Of every population, how many seed the next one.
LIVING = 8
# Divergences in nats are expm1 of this times the table's normalised features, up to one factor.
LOG_SPAN = 2.5
GOLDEN = 0.618034
# Beyond this share of a target forecasts are not believed: what they promise costs more than it
# brings, and this is how much more.
NEAR, FAR_PENALTY = 0.01, 10.0


@dataclass(frozen=True, slots=True)
class FrontierSettings:
    """Hyper-parameters, and switches that take a part away to see what it is worth."""

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
    sensitivity: bool = True
    surrogate: bool = True


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of one policy."""

    policy: Policy
    accuracy: float
    cost: float
    measured: bool


@dataclass(frozen=True, eq=False)
class Candidate:
    """A policy and its code, its forecast reward, and its exact over its fast cost."""

    value: float
    code: Batch
    policy: Policy
    exact_ratio: float


@dataclass
class Aim:
    """The targets of the islands, in the cost's unit, ascending; `asked` are those asked for."""

    costs: Floats
    asked: Ints

    @classmethod
    def of(cls, problem: Problem, between: int) -> Aim:
        """Return the targets of a problem and some between the least and the uncompressed one."""
        wanted = sorted(set(problem.targets or (problem.target,)))
        grid = np.geomspace(wanted[0], problem.reference, between + 2)[1:-1]
        # Those that nearly are one that was asked for teach nothing.
        grid = np.asarray([t for t in grid if min(abs(np.log(t / w)) for w in wanted) > 0.05])
        costs = np.sort(np.concatenate([wanted, grid]))
        return cls(costs, np.searchsorted(costs, wanted))


@strategy("frontier", settings=FrontierSettings, front=True, needs=("program_cost", "residuals"))
class Frontier:
    """Populations for all targets, forecasts, and a memory of what was told."""

    def __init__(self, problem: Problem) -> None:
        self.settings = settings_from(FrontierSettings, problem.settings)
        self.problem = problem
        self.program_cost = self._prediction()
        table = harms(problem)
        self.encoding = Encoding(
            problem.space, table if self.settings.sensitivity else alike(table)
        )
        self.groups = [block.layers for block in blocks(self.encoding.graph)]
        size = (self.settings.population, self.settings.offspring, self.settings.generations)
        self.islands = Islands(self.encoding, self.groups, IslandSettings(*size))
        self.aim = Aim.of(problem, self.settings.between)
        self.model = AccuracyModel(
            self.encoding, self.groups, self.encoding.graph.classes, problem.seed
        )
        self.living: list[Batch] = []
        self._forget()

    def _forget(self) -> None:
        self.told: list[Told] = []
        self.correction = Correction()
        # The best measured reward for each target.
        self._best = np.full(len(self.aim.costs), -np.inf)

    def _prediction(self) -> ProgramCost:
        """Return what predicts a program's cost layer by layer: from its kernels where it can."""
        predict = self.problem.program_cost or self.problem.layer_cost
        if predict is None:
            raise RecipeError("frontier: predicted costs are missing")
        return predict

    @cached_property
    def costs(self) -> LayerCosts:
        """The fast model of costs, fitted to planned programs once."""
        return LayerCosts(self.encoding, self.program_cost, self._generator("costs"))

    def ask(self) -> Policy:
        """Evolve on the forecasts, choose for one target, and make the choice exact."""
        self._learn()
        return self._propose()

    def ask_many(self, count: int) -> list[Policy]:
        """Propose in turn: what was proposed counts as told, but nothing is learned from it."""
        self._learn()
        told = len(self.told)
        try:
            for _ in range(count):
                self.told.append(Told(self._propose(), float("nan"), float("nan"), False))
            return [proposed.policy for proposed in self.told[told:]]
        finally:
            del self.told[told:]

    def _propose(self) -> Policy:
        number = len(self.told)
        rng = self._generator(number)
        target = self._target(number)
        populations = self.islands.evolve(
            self._start(rng), len(self.aim.costs), self._forecasts, self._score, rng
        )
        self.living = [population.batch[slice(LIVING)] for population in populations]
        return self._choose(populations[target].batch, target, rng)

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        """Remember, and correct the predictions."""
        cost = self.problem.cost.of(evaluation)
        self._take(Told(policy, evaluation.accuracy, cost, is_measured(evaluation)))

    def worth(self, policy: Policy, accuracy: float) -> bool:
        """Whether a policy of known accuracy promises more than what was measured, for a target.

        For targets that were not asked for, clearly more: a front needs no last digit.
        """
        cost = self._corrected(policy, self.program_cost(policy))
        margin = np.full(len(self.aim.costs), self.settings.margin)
        margin[self.aim.asked] = 0.0
        return bool((self._rewards(accuracy, cost) > self._best + margin).any())

    def predict(self, policy: Policy) -> Figure:
        """Return the predicted cost with its 95 % interval."""
        value, deviation = self._cost(policy)
        reach = 1.96 * deviation
        return Figure(value, "predicted", value - reach, value + reach)

    def foretell(self, policy: Policy) -> Foretold | None:
        """Return what is expected of a policy; nothing before the accuracy model was fitted."""
        if not self.model.ready:
            return None
        forecast = self.model(self.encoding.batch([policy]))
        low, high = forecast.interval(COVERED)
        accuracy = Expected(float(forecast.accuracy()[0]), float(low[0]), float(high[0]))
        value, deviation = self._cost(policy)
        reach = float(norm.ppf((1 + COVERED) / 2)) * deviation
        return Foretold(accuracy, Expected(value, value - reach, value + reach))

    def _cost(self, policy: Policy) -> tuple[float, float]:
        """Return the predicted cost and its standard deviation."""
        by_layer = self.program_cost(policy)
        factor, deviation = self.correction(shares(policy, by_layer))
        total = sum(by_layer.values())
        return total * factor, total * deviation

    def _take(self, told: Told) -> None:
        if told.measured:
            by_layer = self.program_cost(told.policy)
            self.correction.learn(shares(told.policy, by_layer), told.cost / sum(by_layer.values()))
            self._best = np.maximum(self._best, self._rewards(told.accuracy, told.cost))
        self.told.append(told)

    def _rewards(self, accuracy: float, cost: float) -> Floats:
        """Return the reward of an accuracy and a cost for every target."""
        evaluation = self.problem.cost.forecast(accuracy, cost)
        goals = self.aim.costs.tolist()
        return np.asarray([self.problem.reward(evaluation, goal) for goal in goals])

    def _learn(self) -> None:
        if self.settings.surrogate and len(self.told) >= self.settings.design:
            batch = self.encoding.batch([told.policy for told in self.told])
            self.model.fit(batch, np.asarray([told.accuracy for told in self.told]))

    def _target(self, number: int) -> int:
        """Return the target of an evaluation: the asked ones in turn, now and then another."""
        asked, every = self.aim.asked, self.settings.front_every
        # The design tries every weight for every target that was asked for.
        after = number - self.settings.design
        others = [i for i in range(len(self.aim.costs)) if i not in asked]
        if after < 0 or not others or not every:
            return int(asked[number % len(asked)])
        if after % every == every - 1:
            # Far ones first, then those between them: the golden section spreads any number.
            return others[int(len(others) * ((after // every + 1) * GOLDEN % 1.0))]
        return int(asked[(after - after // every) % len(asked)])

    def _start(self, rng: np.random.Generator) -> Batch:
        """Return what all islands begin with: what lived, what was told, and newcomers."""
        plain = self.encoding.batch(
            [uncompressed(self.encoding.graph), *(told.policy for told in self.told[-64:])]
        )
        return join([plain, self.encoding.random(64, rng), *self.living])

    def _forecasts(self, batch: Batch) -> Floats:
        """Return hoped-for accuracies and fast costs: [n, 2]."""
        return np.stack([self._accuracy(batch), self.costs(batch)], 1)

    def _accuracy(self, batch: Batch) -> Floats:
        number = len(self.told)
        if self.model.ready:
            return self.model(batch).accuracy(self.settings.hope[number % len(self.settings.hope)])
        # Nothing tells yet how much a removed channel weighs against a lost bit: try several.
        turn = number // len(self.aim.asked)
        weight = self.settings.weights[turn % len(self.settings.weights)]
        pruning, formats = self.encoding.harm(batch)
        return np.asarray(1 / (1 + weight * pruning.sum(1) + formats.sum(1)))

    def _score(self, figures: Floats, target: int) -> Floats:
        """Return the problem's reward of forecasts, for one of the islands' targets."""
        goal = float(self.aim.costs[target])
        reward, forecast = self.problem.reward, self.problem.cost.forecast
        rewards = [reward(forecast(a, cost), goal) for a, cost in figures.tolist()]
        far = np.maximum(np.abs(figures[:, 1] / goal - 1) - NEAR, 0.0)
        return np.asarray(rewards) - FAR_PENALTY * far

    def _choose(self, candidates: Batch, target: int, rng: np.random.Generator) -> Policy:
        """Return the best policy that is new, its cost predicted from its program."""
        best = self._planned(candidates, target)
        while best is None:
            best = self._planned(self.encoding.random(64, rng), target)
        better = self._planned(self._neighbours(best.code), target, best.exact_ratio)
        return better.policy if better is not None and better.value > best.value else best.policy

    def _planned(self, batch: Batch, target: int, ratio: float = 1.0) -> Candidate | None:
        """Return the best of a batch by exact predictions, None where all were told before.

        `ratio` corrects the fast predictions by which the candidates for planning are chosen.
        """
        known = set(self.encoding.batch([told.policy for told in self.told]).keys())
        new = [i for i, key in enumerate(batch.keys()) if key not in known]
        if not new:
            return None
        batch = batch[np.asarray(new)]
        figures = self._forecasts(batch) * [1.0, ratio]
        order = np.argsort(-self._score(figures, target), kind="stable")[: self.settings.planned]
        policies = [self.encoding.policy(batch, int(i)) for i in order]
        rows = [self.program_cost(policy) for policy in policies]
        self.costs.learn(batch[order], rows)
        exact = np.asarray([self._corrected(*pair) for pair in zip(policies, rows, strict=True)])
        values = self._score(np.stack([figures[order, 0], exact], 1), target)
        first = int(np.argmax(values))
        code = batch[order[first : first + 1]]
        fast = float(self.costs(code)[0])
        return Candidate(
            float(values[first]), code, policies[first], exact_ratio=float(exact[first]) / fast
        )

    def _corrected(self, policy: Policy, by_layer: Mapping[str, float]) -> float:
        """Return the cost of a policy whose layers are predicted to cost `by_layer`."""
        factor, _ = self.correction(shares(policy, by_layer))
        return sum(by_layer.values()) * factor

    def _neighbours(self, row: Batch) -> Batch:
        """Return all policies that differ from one in a single decision."""
        encoding = self.encoding
        widths, forms = [], []
        for driver, count in enumerate(encoding.counts):
            for level in range(int(count)):
                if level != row.widths[0, driver]:
                    changed = row.widths.copy()
                    changed[0, driver] = level
                    widths.append(changed)
                    forms.append(row.forms)
        for layer, options in enumerate(encoding.choices):
            for form in options:
                if form != row.forms[0, layer]:
                    changed = row.forms.copy()
                    changed[0, layer] = form
                    widths.append(row.widths)
                    forms.append(changed)
        return Batch(np.concatenate(widths), np.concatenate(forms))

    def _generator(self, what: int | str) -> np.random.Generator:
        """Return a generator for one purpose: a resumed search draws what it would have drawn."""
        stream = int.from_bytes(str(what).encode(), "big") % (1 << 63)
        return np.random.default_rng([self.problem.seed, stream])

    def state_dict(self) -> State:
        """Return what was told, and the populations."""
        return {
            "told": [{**asdict(told), "policy": told.policy.to_dict()} for told in self.told],
            "living": [[b.widths.tolist(), b.forms.tolist()] for b in self.living],
            "costs": self.costs.state_dict(),
            "noise": self.model.noise,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        self._forget()
        for raw in state["told"]:
            self._take(Told(**{**raw, "policy": Policy.from_dict(raw["policy"])}))
        self.living = [_batch(*raw) for raw in state["living"]]
        self.costs.load_state_dict(state["costs"])
        # Every fit of the accuracy model starts from what the one before it found.
        self.model.noise = state.get("noise", self.model.noise)


def harms(problem: Problem) -> Harms:
    """Return what adds up over layers: errors that solving leaves, else divergences in nats."""
    if problem.residuals:
        return problem.residuals
    return {
        layer: {kind: np.expm1(LOG_SPAN * np.asarray(row)).tolist() for kind, row in rows.items()}
        for layer, rows in problem.sensitivity.items()
    }


def alike(table: Harms) -> Harms:
    """Return a table in which every layer is as sensitive as the average one."""
    kinds = {kind for row in table.values() for kind in row}
    mean = {
        kind: tuple(np.mean([row[kind] for row in table.values() if kind in row], axis=0))
        for kind in kinds
    }
    return dict.fromkeys(table, mean)


def _batch(widths: list[list[int]], forms: list[list[int]]) -> Batch:
    return Batch(np.asarray(widths, dtype=np.int64).reshape(len(forms), -1), np.asarray(forms))
