"""The search itself: ask, evaluate, remember, tell; stops and goes on at any instant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from host.errors import StoreError
from host.policy import Policy
from host.search.episode import Episode
from host.search.strategy import Problem, State, Strategy
from host.types import Evaluation

Evaluate = Callable[[Policy], Evaluation]


@dataclass
class Memory:
    """Where a search remembers: episodes in order, and now and then the strategy's state.

    `record` must be durable before it returns; `save(n, state)` is the state after n episodes.
    """

    record: Callable[[Episode], None]
    save: Callable[[int, State], None]


def search(
    problem: Problem,
    strategy: Strategy,
    evaluate: Evaluate,
    memory: Memory,
    *,
    past: Sequence[Episode] = (),
    state: tuple[int, State] | None = None,
    save_every: int = 5,
) -> list[Episode]:
    """Run a search to its last episode and return all of them.

    `past` are the episodes already recorded, `state` a strategy's state after some of them: what
    came after it is asked again and told what was recorded, never evaluated twice.
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
    while told < problem.episodes:
        policy = strategy.ask()
        if told < len(episodes):
            episode = episodes[told]
            if episode.policy.digest() != policy.digest():
                raise StoreError(
                    f"episode {told + 1} of the run was another policy than a replay gives: "
                    "recipe, network or version changed; start a new run"
                )
        else:
            evaluation = evaluate(policy)
            episode = Episode(told, policy, evaluation, problem.score(evaluation))
            memory.record(episode)
            episodes.append(episode)
        strategy.tell(policy, episode.evaluation)
        told += 1
        if told % save_every == 0 or told == problem.episodes:
            memory.save(told, strategy.state_dict())
    return episodes
