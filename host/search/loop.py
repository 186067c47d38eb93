"""The search itself: ask, evaluate, remember, tell; stops and goes on at any instant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from host.errors import StoreError
from host.policy import Policy
from host.search.episode import Episode, is_measured
from host.search.strategy import AskMany, Forecasting, Judging, Problem, State, Strategy
from host.surrogate.scorecard import Foretold, Scorecard
from host.threads import one_thread
from host.types import Evaluation

Evaluate = Callable[[Policy], Evaluation]
# Evaluates policies side by side, the first of them at this place of its batch; yields in order.
EvaluateMany = Callable[[Sequence[Policy], int], Iterable[Evaluation]]


@dataclass(frozen=True, slots=True)
class Abreast:
    """Evaluates up to `width` policies side by side."""

    width: int
    evaluate: EvaluateMany


@dataclass
class Memory:
    """Where a search remembers: episodes in order, and now and then the strategy's state.

    `record` must be durable before it returns; `save(n, state)` is the state after n episodes.
    `scorecard` is what a forecasting strategy foretold against what came; whoever keeps a state
    keeps the scorecard of the same moment beside it.
    """

    record: Callable[[Episode], None]
    save: Callable[[int, State], None]
    scorecard: Scorecard = field(default_factory=Scorecard)


def search(
    problem: Problem,
    strategy: Strategy,
    evaluate: Evaluate | Abreast,
    memory: Memory,
    *,
    past: Sequence[Episode] = (),
    state: tuple[int, State] | None = None,
    save_every: int = 5,
) -> list[Episode]:
    """Run a search to its last episode and return all of them.

    `past` are the episodes already recorded, `state` a strategy's state after some of them: what
    came after it is asked again and told what was recorded, never evaluated twice. A strategy that
    can is asked for as many policies at once as are evaluated side by side, and told of none before
    all of them are known: what it does never depends on which board was faster.
    """
    episodes = list(past)
    told = 0
    if state is not None:
        told, saved = state
        if told > len(episodes):
            raise StoreError(
                f"the checkpoint knows {told} episodes and the store {len(episodes)}: "
                "the database of the run is missing or older; put it back"
            )
        strategy.load_state_dict(saved)
    together = batch_size(strategy, evaluate.width if isinstance(evaluate, Abreast) else 1)
    batch = _Batch(problem, strategy, evaluate, memory)
    while told < problem.episodes:
        with one_thread():
            asked = _ask(strategy, min(together, problem.episodes - told))
        done = batch.episodes(asked, told, episodes)
        with one_thread():
            for episode in done:
                strategy.tell(episode.policy, episode.evaluation)
        before, told = told, told + len(asked)
        if told // save_every > before // save_every or told == problem.episodes:
            memory.save(told, strategy.state_dict())
    return episodes


def batch_size(strategy: Strategy, width: int) -> int:
    """Return how many policies a strategy is asked for before it is told of the first."""
    return width if isinstance(strategy, AskMany) else 1


def _ask(strategy: Strategy, count: int) -> list[Policy]:
    if count > 1 and isinstance(strategy, AskMany):
        return strategy.ask_many(count)
    return [strategy.ask()]


@dataclass
class _Batch:
    """Policies that were asked together become episodes: recorded ones again, the others anew."""

    problem: Problem
    strategy: Strategy
    evaluate: Evaluate | Abreast
    memory: Memory

    def episodes(
        self, asked: Sequence[Policy], told: int, episodes: list[Episode]
    ) -> Sequence[Episode]:
        """Return the episodes of a batch that starts after `told`; new ones join `episodes`."""
        foretold = self._foretold(asked, episodes[:told])
        recorded = episodes[told : told + len(asked)]
        for policy, episode in zip(asked, recorded, strict=False):
            _check(episode, policy)
            self._judge(foretold.get(episode.number), episode.evaluation)
        fresh = asked[len(recorded) :]
        for policy, evaluation in zip(fresh, self._evaluated(fresh, len(recorded)), strict=True):
            self._judge(foretold.get(len(episodes)), evaluation)
            score = self._score(policy, evaluation)
            episodes.append(Episode(len(episodes), policy, evaluation, score))
            self.memory.record(episodes[-1])
        return episodes[told : told + len(asked)]

    def _evaluated(self, policies: Sequence[Policy], place: int) -> Iterable[Evaluation]:
        if isinstance(self.evaluate, Abreast):
            return self.evaluate.evaluate(policies, place) if policies else ()
        return map(self.evaluate, policies)

    def _foretold(self, asked: Sequence[Policy], told: Sequence[Episode]) -> dict[int, Foretold]:
        """Return what is foretold, by number; nothing of a policy that was told before."""
        if not isinstance(self.strategy, Forecasting):
            return {}
        known = {episode.policy.digest() for episode in told}
        found: dict[int, Foretold] = {}
        for number, policy in enumerate(asked, len(told)):
            name = policy.digest()
            foretold = None if name in known else self.strategy.foretell(policy)
            if foretold is not None:
                found[number] = foretold
            known.add(name)
        return found

    def _score(self, policy: Policy, evaluation: Evaluation) -> float:
        if isinstance(self.strategy, Judging):
            return self.strategy.judge(policy, evaluation)
        return self.problem.score(evaluation)

    def _judge(self, foretold: Foretold | None, truth: Evaluation) -> None:
        if foretold is not None:
            cost = self.problem.cost.of(truth) if is_measured(truth) else None
            self.memory.scorecard.add(foretold, truth.accuracy, cost)


def _check(episode: Episode, policy: Policy) -> None:
    if episode.policy.digest() != policy.digest():
        raise StoreError(
            f"episode {episode.number + 1} of the run was another policy than a replay gives: "
            "recipe, network or version changed; start a new run"
        )
