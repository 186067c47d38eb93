"""One search on several boards, through the whole product: side by side, and as a fleet."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hil_lab.runs import Run
from host.search.episode import Episode
from host.store import Store
from tests.hil_lab import tiny
from tests.hil_lab.commands import Done, hil_lab

pytestmark = [pytest.mark.tvm, pytest.mark.slow]

BOTH = "sim:rpi4,sim:rpi4-2"
NAMES = BOTH.split(",")
Search = Callable[..., Done]


@pytest.fixture
def search(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run a tiny search in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for name, value in tiny.environment(tmp_path_factory).items():
            patch.setenv(name, value)

        def run(board: str, **more: object) -> Done:
            settings = tiny.arguments(**{"search.strategy": "random", **more})
            return hil_lab("search", "digits", *settings, "--board", board, "--json")

        yield run


def run_of(done: Done) -> Run:
    assert done.status == 0, done.err
    return Run(Path("runs") / done.json["run"])


def kept(run: Run) -> tuple[list[Episode], list[list[str]]]:
    """Return the episodes of a run, and the boards that measured each."""
    with closing(Store(run.folder.parent / "store.db")) as store:
        episodes = store.episodes(f"{run.name}@0.3")
        boards = [
            [store.measurement(name).board for name in episode.evaluation.measurements]
            for episode in episodes
        ]
    return episodes, boards


def events(run: Run, kind: str) -> list[dict[str, Any]]:
    lines = run.path("events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_policies_are_shared_out_over_the_boards_the_same_every_time(search: Search) -> None:
    first, again = (run_of(search(BOTH)) for _ in range(2))
    episodes, boards = kept(first)
    assert boards == [[NAMES[i % 2]] for i in range(tiny.EPISODES)]
    policies = [e.policy.digest() for e in episodes]
    assert [e.policy.digest() for e in kept(again)[0]] == policies
    result = first.read("result.json")
    assert [board["name"] for board in result["boards"]] == NAMES
    assert first.recipe.board == tuple(NAMES)


def test_a_sparing_strategy_is_asked_for_batches(search: Search) -> None:
    islands = {"generations": 2, "population": 4, "offspring": 4, "design": 2, "planned": 2}
    agent = {f"search.agent.{key}": value for key, value in islands.items()}
    run = run_of(search(BOTH, **{"search.strategy": "frontier", **agent}))
    episodes, boards = kept(run)
    assert len({e.policy.digest() for e in episodes}) == tiny.EPISODES
    measured = [(e.number, board) for e, board in zip(episodes, boards, strict=True) if e.measured]
    assert measured[:2] == [(0, [NAMES[0]]), (1, [NAMES[1]])]
    assert all(board == [NAMES[number % 2]] for number, board in measured)


def test_a_board_that_fails_is_dropped_and_the_search_goes_on(search: Search) -> None:
    run = run_of(search("sim:rpi4?fault=crash,sim:rpi4-2"))
    assert kept(run)[1] == [["sim:rpi4-2"]] * tiny.EPISODES
    (dropped,) = events(run, "board dropped")
    assert "sim:rpi4?fault=crash" in dropped["why"] and "died" in dropped["why"]
    assert run.read("result.json")["board"]["name"] == "sim:rpi4-2"


def test_without_a_board_the_search_ends_with_one_sentence(search: Search) -> None:
    done = search("sim:rpi4?fault=crash,sim:rpi4-2?fault=crash")
    assert done.status == 1
    (sentence,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert "no board is left: " in sentence
    assert sentence.count("died") == 2


def test_a_fleet_is_measured_whole_and_judged_by_its_median(search: Search) -> None:
    three = f"{BOTH},sim:rpi4-3"
    run = run_of(search(three, **{"measure.fleet": "median", "search.episodes": 2}))
    episodes, boards = kept(run)
    assert boards == [three.split(",")] * 2
    with closing(Store(run.folder.parent / "store.db")) as store:
        for episode in episodes:
            each = [store.measurement(name).latency_ms for name in episode.evaluation.measurements]
            figure = episode.evaluation.latency_ms
            assert figure is not None
            assert figure.value == sorted(one.median for one in each)[1]
            assert figure.low == min(one.low for one in each)
            assert figure.high == max(one.high for one in each)
            assert figure.low < figure.high * 0.999, "simulated boards differ"
    reference = run.read("reference.json")
    assert len(reference["measurements"]) == 3
    for row in run.read("result.json")["rows"]:
        assert len(row["evaluation"]["measurements"]) == 3


def test_a_fleet_with_a_broken_board_says_that_it_needs_all(search: Search) -> None:
    done = search(f"{BOTH}?fault=crash", **{"measure.fleet": "p90"})
    assert done.status == 1
    assert "the p90 of a fleet needs all of its 2 boards" in done.err


def test_boards_of_two_kinds_are_refused(search: Search) -> None:
    done = search("local,sim:rpi4")
    assert done.status == 2
    assert "name boards of one kind" in done.err


def test_channels_may_go_by_what_their_readers_lose(search: Search) -> None:
    """The pruner that needs images, whichever board measures and though counts could stop."""
    agent = {"hidden": [8, 8], "rainbow_hidden": 8, "warmup_share": 1.0, "common_share": 0.0}
    settings = {f"search.agent.{key}": value for key, value in agent.items()}
    more = {"search.strategy": "composite", "search.episodes": 6, "search.early_stop": "true"}
    episodes, boards = kept(run_of(search(BOTH, **more, **settings)))
    pruners = {p.pruner for e in episodes for p in e.policy.layers if not p.zeros}
    assert "reconstruction" in pruners and len(boards) == 6
    assert {e.evaluation.samples for e in episodes} == {64}


def test_a_search_in_two_stages_ends_with_what_it_trained_on_the_way(search: Search) -> None:
    agent = {"hidden": [8, 8], "left": 0.5}
    settings = {f"search.agent.{key}": value for key, value in agent.items()}
    more = {
        "search.strategy": "two-stage",
        "search.cost": "size",
        "search.reward": "one-sided",
        "search.early_stop": "true",
        "finetune.search_steps": 0,
        "finetune.stage_epochs": 1,
    }
    done = search(NAMES[0], **more, **settings)
    run = run_of(done)
    episodes, _ = kept(run)
    (stage,) = run.path("stages").iterdir()
    first, second = episodes[: tiny.EPISODES // 2], episodes[tiny.EPISODES // 2 :]
    assert not any(e.measured for e in first) and second[0].measured
    assert {e.policy.pruning_digest() for e in second} == {stage.name}
    assert stage.name in {e.policy.pruning_digest() for e in first}
    assert {e.evaluation.samples for e in episodes} == {64}
    chosen = done.json["rows"][-1]
    assert chosen["compression"]["fewer_weights"] > 1.9
    assert all(
        proof["complaints"] == [] for proof in chosen["verify"].values() if proof["executed"]
    )
