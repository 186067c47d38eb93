"""The loop with several policies at once: the same whatever is faster, and after any kill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from host.errors import StoreError
from host.policy import Policy
from host.search.episode import Episode
from host.search.loop import Abreast, Memory, search
from host.search.strategy import AskMany, State, Strategy, make_strategy
from host.surrogate.scorecard import Expected, Foretold
from host.types import Evaluation
from tests.host.search.toy import evaluate, problem

EPISODES = 11
ISLANDS = {"generations": 3, "population": 6, "offspring": 6, "design": 4, "planned": 4}
SETTINGS = {"frontier": {**ISLANDS, "proposals": 4, "lessons": 1}}
BATCHING = ("frontier", "random", "uniform", "tpe", "nsga2")


class Killed(Exception):
    """The process is gone."""


@dataclass
class Log:
    """What a search did, in order."""

    kept: list[Episode] = field(default_factory=list)
    state: tuple[int, State] | None = None
    saves: list[int] = field(default_factory=list)
    evaluated: list[tuple[int, Policy]] = field(default_factory=list)
    kill_at: int | None = None

    def record(self, episode: Episode) -> None:
        if episode.number == self.kill_at:
            raise Killed
        self.kept.append(episode)

    def save(self, number: int, state: State) -> None:
        self.saves.append(number)
        self.state = number, state

    def many(self, policies: Sequence[Policy], place: int) -> Iterator[Evaluation]:
        for at, policy in enumerate(policies, place):
            self.evaluated.append((at, policy))
            yield evaluate(policy)


def made(name: str) -> Strategy:
    return make_strategy(name, problem(0, EPISODES, **SETTINGS.get(name, {})))


def run(
    name: str, width: int, log: Log, before: Log | None = None, strategy: Strategy | None = None
) -> list[Episode]:
    return search(
        problem(0, EPISODES),
        strategy or made(name),
        Abreast(width, log.many),
        Memory(log.record, log.save),
        past=before.kept if before else (),
        state=before.state if before else None,
        save_every=4,
    )


def digests(episodes: Sequence[Episode]) -> list[str]:
    return [episode.policy.digest() for episode in episodes]


@pytest.mark.parametrize("name", BATCHING)
class TestStrategiesAskedForMany:
    def test_one_policy_is_what_ask_returns(self, name: str) -> None:
        strategy = made(name)
        assert isinstance(strategy, AskMany)
        assert strategy.ask_many(1)[0].digest() == made(name).ask().digest()

    def test_the_first_of_many_is_what_ask_returns(self, name: str) -> None:
        strategy = made(name)
        assert isinstance(strategy, AskMany)
        asked = strategy.ask_many(3)
        assert len(asked) == 3
        assert asked[0].digest() == made(name).ask().digest()
        assert len({policy.digest() for policy in asked}) == 3

    @pytest.mark.parametrize("kill_at", [1, 4, 5, 10])
    def test_a_killed_search_ends_as_an_undisturbed_one(self, name: str, kill_at: int) -> None:
        """In the middle of a batch of three, at its end, and in the last, shorter one."""
        whole = run(name, 3, Log())
        killed = Log(kill_at=kill_at)
        with pytest.raises(Killed):
            run(name, 3, killed)
        resumed = Log()
        assert digests(run(name, 3, resumed, killed)) == digests(whole)
        assert digests([*killed.kept, *resumed.kept]) == digests(whole)
        assert len(resumed.evaluated) == EPISODES - kill_at
        assert resumed.evaluated[0][0] == kill_at % 3, "the same board is asked again"


def test_the_state_is_kept_between_batches_only() -> None:
    log = Log()
    run("random", 3, log)
    assert log.saves == [6, 9, 11]


def test_a_strategy_that_cannot_is_asked_one_at_a_time() -> None:
    log = Log()
    episodes = run("greedy", 3, log)
    assert [place for place, _ in log.evaluated] == [0] * EPISODES
    single = search(
        problem(0, EPISODES), made("greedy"), evaluate, Memory(lambda e: None, lambda n, s: None)
    )
    assert digests(episodes) == digests(single)


@dataclass
class Listening:
    """Random policies; writes down what happens."""

    inner: Strategy
    heard: list[str] = field(default_factory=list)

    def ask(self) -> Policy:
        return self.ask_many(1)[0]

    def ask_many(self, count: int) -> list[Policy]:
        self.heard.append(f"ask {count}")
        return [self.inner.ask() for _ in range(count)]

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        self.heard.append(f"tell {policy.digest()[:6]}")

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None: ...


def test_a_batch_is_told_in_the_order_asked_once_all_of_it_is_known() -> None:
    strategy = Listening(made("random"))
    log = Log()

    def many(policies: Sequence[Policy], place: int) -> Iterator[Evaluation]:
        for policy in policies:
            strategy.heard.append("evaluated")
            yield evaluate(policy)

    log.many = many  # type: ignore[method-assign]
    episodes = run("", 2, log, strategy=strategy)
    first, second = (f"tell {e.policy.digest()[:6]}" for e in episodes[:2])
    assert strategy.heard[:5] == ["ask 2", "evaluated", "evaluated", first, second]
    assert strategy.heard[-3:-1] == ["ask 1", "evaluated"]


def test_another_width_is_another_search() -> None:
    """Once evaluations teach something, after the design: a batch is asked before it is told."""
    killed = Log(kill_at=10)
    with pytest.raises(Killed):
        run("frontier", 3, killed)
    killed.state = None
    with pytest.raises(StoreError, match="another policy than a replay gives"):
        run("frontier", 1, Log(), killed)


@dataclass
class Seer:
    """Asks for the same policies twice over, and foretells all but the first of them."""

    inner: Strategy
    asked: list[Policy] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def ask(self) -> Policy:
        number = len(self.asked)
        self.asked.append(self.asked[number - 4] if number >= 4 else self.inner.ask())
        return self.asked[-1]

    def foretell(self, policy: Policy) -> Foretold | None:
        if policy.digest() == self.asked[0].digest():
            return None
        return Foretold(Expected(len(self.told) / 100))

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        self.told.append(policy.digest())

    def state_dict(self) -> State:
        return {"told": self.told}

    def load_state_dict(self, state: State) -> None: ...


def test_only_what_was_foretold_before_it_was_told_is_judged() -> None:
    strategy, log = Seer(make_strategy("random", problem(0, 8))), Log()
    memory = Memory(log.record, log.save)
    episodes = search(problem(0, 8), strategy, evaluate, memory)
    pairs = [(pair.expected.value, pair.truth) for pair in memory.scorecard.accuracy]
    # The first is not foretold, and the last four were told before.
    assert pairs == [(n / 100, episodes[n].evaluation.accuracy) for n in (1, 2, 3)]


def test_replayed_episodes_are_judged_as_they_were() -> None:
    whole, log = Memory(Log().record, Log().save), Log(kill_at=8)
    search(problem(0, EPISODES), made("frontier"), Abreast(3, Log().many), whole)
    killed = Memory(log.record, log.save)
    with pytest.raises(Killed):
        search(problem(0, EPISODES), made("frontier"), Abreast(3, log.many), killed)
    resumed = Memory(Log().record, Log().save)
    search(problem(0, EPISODES), made("frontier"), Abreast(3, Log().many), resumed, past=log.kept)
    assert resumed.scorecard == whole.scorecard
    assert len(whole.scorecard.accuracy) == EPISODES - 6, (
        "the model is trusted from the third batch"
    )
