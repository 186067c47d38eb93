"""What a search leaves while it runs: episodes, events, its state, and how well it foresees."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hil_lab.memory import SearchMemory
from hil_lab.runs import Run
from host.cost import LATENCY
from host.policy import uncompressed, uniform_int8
from host.search.episode import Episode
from host.search.loop import Memory
from host.store import Store
from host.surrogate.scorecard import Expected, Foretold, Scorecard
from tests.host.search.toy import GRAPH, SPACE, evaluate

POLICIES = (uncompressed(GRAPH), uniform_int8(SPACE))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "a-run"
    folder.mkdir()
    return Run(folder)


def opened(run: Run) -> SearchMemory:
    return SearchMemory(run, Store(run.folder.parent / "store.db"), "0.3", 0.3, 10.0)


def episode(number: int) -> Episode:
    return Episode(number, POLICIES[number], evaluate(POLICIES[number]), 0.1 * number)


def judge(memory: Memory, number: int) -> None:
    """Tell the scorecard what an episode was and what had been expected of it."""
    truth = evaluate(POLICIES[number])
    ms = LATENCY.of(truth)
    foretold = Foretold(Expected(truth.accuracy - 0.02), Expected(1.1 * ms))
    memory.scorecard.add(foretold, truth.accuracy, ms)


def events(run: Run, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, run.path("events.jsonl").read_text().splitlines())
    return [event for event in lines if event["event"] == kind]


def test_the_bar_says_how_well_the_search_foresees_once_it_does(run: Run) -> None:
    notes: list[tuple[int, str]] = []
    kept = opened(run)
    memory = kept.memory(lambda done, note: notes.append((done, note)))
    memory.record(episode(0))
    judge(memory, 1)
    memory.record(episode(1))
    assert notes[0] == (1, "best 95.0% at 1.00x")
    assert notes[1][0] == 2
    assert notes[1][1].endswith("x, surrogate ±2.0 %")


def test_every_judged_episode_is_an_event_with_its_figures(run: Run) -> None:
    memory = opened(run).memory(lambda done, note: None)
    memory.record(episode(0))
    judge(memory, 1)
    memory.record(episode(1))
    assert [event["number"] for event in events(run, "episode")] == [0, 1]
    (judged,) = events(run, "surrogate")
    assert (judged["number"], judged["target"], judged["pairs"]) == (1, 0.3, 1)
    assert judged["error"] == pytest.approx(0.02)
    assert judged["cost_error_ratio"] == pytest.approx(0.1)


def test_a_search_finds_its_episodes_its_state_and_its_scorecard_again(run: Run) -> None:
    memory = opened(run).memory(lambda done, note: None)
    for number in (0, 1):
        judge(memory, number)
        memory.record(episode(number))
    memory.save(2, {"seen": [1, 2]})
    again = opened(run)
    assert again.so_far == [episode(0), episode(1)]
    assert again.state == (2, {"seen": [1, 2]})
    assert again.scorecard == memory.scorecard
    assert Scorecard.from_dict(run.read("at-0.3/surrogate.json")) == memory.scorecard


def test_a_state_and_its_scorecard_are_of_the_same_moment(run: Run) -> None:
    """What came after the state is asked, foretold and judged again."""
    memory = opened(run).memory(lambda done, note: None)
    judge(memory, 0)
    memory.record(episode(0))
    memory.save(1, {})
    judge(memory, 1)
    memory.record(episode(1))
    again = opened(run)
    assert len(again.so_far) == 2
    assert len(again.scorecard.accuracy) == 1


def test_a_new_search_knows_nothing(run: Run) -> None:
    kept = opened(run)
    assert (kept.so_far, kept.state, kept.scorecard) == ([], None, Scorecard())


def measured_episode(number: int) -> Episode:
    made = episode(number)
    evaluation = replace(made.evaluation, measurements=(f"m-{number}",))
    return replace(made, evaluation=evaluation)


def test_episodes_whose_measurement_was_invalidated_are_asked_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = opened(run).memory(lambda done, note: None)
    for number in (0, 1):
        memory.record(measured_episode(number))
    memory.save(1, {"seen": 1})
    memory.save(2, {"seen": 2})
    monkeypatch.setattr(Store, "invalid", lambda self, names: {"m-1": "the anchor is +3.0% off"})
    again = opened(run)
    assert again.so_far == [measured_episode(0)]
    # The state knows the episode that is gone; a replay of what stands makes another.
    assert again.state is None
    assert [event["episodes"] for event in events(run, "requeued")] == [1]
    monkeypatch.undo()
    assert opened(run).so_far == [measured_episode(0)]


def test_nothing_is_dropped_where_all_measurements_stand(run: Run) -> None:
    memory = opened(run).memory(lambda done, note: None)
    memory.record(measured_episode(0))
    memory.save(1, {})
    assert opened(run).state == (1, {})
