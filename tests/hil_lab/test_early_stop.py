"""Counts that stop early: fewer images, the same best policy, and the same again after a resume."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from torch import nn

from hil_lab.experiment import floor_of
from host.compress.finetune import Training
from host.evaluate import Evaluator, Figures, Subject, recall
from host.policy import Policy, policy_bops
from host.search.episode import Episode, best
from host.search.loop import Memory, search
from host.search.reward import absolute
from host.search.strategy import Problem, make_strategy
from host.types import Figure
from tests.host.networks import space_of
from tests.host.trained import digits_subject

EPISODES = 24


@dataclass
class BopsMeter:
    """Latency in proportion to BOPs."""

    subject: Subject

    def figures(self, network: nn.Module, policy: Policy) -> Figures:
        bops = sum(policy_bops(self.subject.graph, policy).values())
        return Figures("artifact", 1000, Figure(bops / 1e9, "measured"))


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.exam.BATCH_IMAGES", 32)


@pytest.fixture(scope="module")
def subject() -> Subject:
    made = digits_subject()
    return Subject(made.network, made.graph, made.plan, made.data)


def run(
    subject: Subject, episodes: int, past: list[Episode] | None = None, *, stop: bool = True
) -> list[Episode]:
    space = space_of(subject.graph, round_to=8)
    problem = Problem(space, absolute(-1.0), 0.3, 1.0, episodes, seed=1)
    so_far = list(past or [])
    evaluator = Evaluator(subject, BopsMeter(subject), Training(steps=0))
    for episode in so_far:
        recall(evaluator.known, episode.policy, episode.evaluation)
    if stop:
        evaluator.floor = floor_of(problem, so_far)
    memory = Memory(so_far.append, lambda number, state: None)
    return search(problem, make_strategy("random", problem), evaluator, memory, past=past or ())


def facts(episodes: list[Episode]) -> list[tuple[str, float, int]]:
    return [(e.policy.digest(), e.reward, e.evaluation.samples) for e in episodes]


def test_hopeless_candidates_see_fewer_images_and_the_best_is_the_same(subject: Subject) -> None:
    stopped, full = run(subject, EPISODES), run(subject, EPISODES, stop=False)
    images = [sum(e.evaluation.samples for e in episodes) for episodes in (stopped, full)]
    assert images[0] < 0.8 * images[1]
    assert best(stopped).evaluation.samples == len(subject.data.validation)
    assert best(stopped).policy == best(full).policy
    assert best(stopped).reward == pytest.approx(best(full).reward)


def test_a_resumed_search_stops_the_same_counts(subject: Subject) -> None:
    whole = run(subject, EPISODES)
    for killed_after in (1, 9):
        past = run(subject, EPISODES)[:killed_after]
        assert facts(run(subject, EPISODES, past)) == facts(whole)


def test_of_a_batch_only_what_came_before_it_counts(subject: Subject) -> None:
    """Else the count of one would depend on whether another was recorded before a kill."""
    made = run(subject, 6, stop=False)
    known = made[0].evaluation
    space = space_of(subject.graph, round_to=8)
    problem = Problem(space, absolute(-1.0), 0.3, 1.0, EPISODES, seed=1)
    so_far: list[Episode] = []
    floor = floor_of(problem, so_far, together=3)
    seen = []
    for episode in made:
        seen.append(floor(known))
        so_far.append(episode)
    assert seen[:3] == [None] * 3
    assert seen[3] == seen[4] == seen[5] == floor_of(problem, made[:3])(known)
