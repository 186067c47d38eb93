"""A real search on the toy problem, killed over and over: `-m ... STRATEGY FOLDER SEED BOARDS`.

Search, store, checkpoint and run folder are the product's; only the evaluation is a formula. This
process imports everything once and forks a child for every start, so that a restart costs nothing.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from hil_lab.abreast import SideBySide, SparingSideBySide
from hil_lab.console import Silent
from hil_lab.experiment import Search
from hil_lab.recipe import Recipe, SearchTable
from hil_lab.runs import Run
from hil_lab.sparing import Prediction, SparingEvaluator
from host.evaluate import Figures
from host.policy import Policy
from host.rack import Rack
from host.search.loop import Abreast, Evaluate
from host.search.strategy import Problem, Sparing, Strategy
from host.store import Store
from host.types import Evaluation
from tests.hil_lab.toy_boards import ToyEvaluator, ToyMeter, shape
from tests.host.search import toy

KILLS = 20
EPISODES = 40
TARGET = 0.3
POLL_S = 0.002
# An evaluation takes its time, and most kills should fall into one.
EVALUATION_S = 0.01
AGENT = {"hidden": (32, 24), "warmup_episodes": 4, "batch": 32}
ISLANDS = {
    "generations": 3,
    "population": 6,
    "offspring": 6,
    "design": 4,
    "planned": 4,
    "proposals": 4,
    "lessons": 1,
}
AGENTS = {"galen-joint": AGENT, "frontier": ISLANDS}


@dataclass
class Evaluator:
    """The toy's formula, remembering as the real one does."""

    known: dict[str, Evaluation] = field(default_factory=dict)

    def __call__(self, policy: Policy) -> Evaluation:
        time.sleep(EVALUATION_S)
        return self.known.setdefault(policy.digest(), toy.evaluate(policy))


class ToySearch(Search):
    """The product's search with the toy in place of network and board."""

    def problem(self, target: float) -> Problem:
        table = self.bench.recipe.search
        return toy.problem(table.seed, table.episodes, **table.agent)

    @cached_property
    def evaluator(self) -> Any:  # type: ignore[override]
        return Evaluator()

    def _evaluate(self, strategy: Strategy) -> Evaluate | Abreast:
        names = self.bench.recipe.board
        if len(names) > 1:
            rack: Any = Rack([ToyMeter(name, slow_s=EVALUATION_S) for name in names])  # type: ignore[misc]
            batch: Any = SideBySide(ToyEvaluator(rack), rack, shape)  # type: ignore[arg-type]
            if isinstance(strategy, Sparing):
                batch = SparingSideBySide(
                    strategy, self.evaluator, rack, shape, prediction_of(strategy)
                )
            return Abreast(len(names), batch)
        if not isinstance(strategy, Sparing):
            return self.evaluator  # type: ignore[no-any-return]
        return SparingEvaluator(strategy, self.evaluator, measured, prediction_of(strategy))

    @cached_property
    def reference(self) -> float:  # type: ignore[override]
        return 10.0


def prediction_of(strategy: Sparing) -> Prediction:
    """Return what the strategy predicts of the toy's programs."""
    return Prediction(strategy, lambda policy: 0, lambda policy: 0.0)


def measured(policy: Policy) -> Figures:
    """Return the toy's latency as a board's."""
    figure = toy.evaluate(policy).latency_ms
    assert figure is not None
    return Figures("", 0, figure)


def search(strategy: str, folder: Path, boards: int) -> None:
    """Start or go on with the search of a folder, and leave its policies in done.json."""
    folder.mkdir(parents=True, exist_ok=True)
    agent = AGENTS.get(strategy, {})
    table = SearchTable(strategy, target=(TARGET,), episodes=EPISODES, seed=3, agent=agent)
    names = tuple(f"toy-{number}" for number in range(boards))
    recipe = Recipe(model="toy", data="toy", board=names, search=table)
    bench = SimpleNamespace(run=Run(folder), recipe=recipe, reporter=Silent())
    store = Store(folder / "store.db")
    made = ToySearch(bench, None, store, None)  # type: ignore[arg-type]
    episodes = made.episodes(TARGET)
    rows = [[e.number, e.policy.digest(), e.reward] for e in episodes]
    stored = [[e.number, e.policy.digest(), e.reward] for e in store.episodes(f"{folder.name}@0.3")]
    store.close()
    judged = folder / "at-0.3" / "surrogate.json"
    foretold = json.loads(judged.read_text()) if judged.is_file() else None
    done = {"episodes": rows, "stored": stored, "foretold": foretold}
    (folder / "done.json").write_text(json.dumps(done))


def forked(strategy: str, folder: Path, boards: int, kill_after_s: float | None) -> bool:
    """Run the search in a child; returns whether it was killed before it was through."""
    child = os.fork()
    if child == 0:
        search(strategy, folder, boards)
        os._exit(0)
    start = time.monotonic()
    while kill_after_s is None or time.monotonic() - start < kill_after_s:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0, f"the search ended with {status}"
            return False
        time.sleep(POLL_S)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main(strategy: str, root: Path, seed: int, boards: int) -> None:
    """Search undisturbed, then in as many folders as it takes to land all kills."""
    torch.set_num_threads(1)
    start = time.monotonic()
    forked(strategy, root / "run", boards, None)
    whole_s = time.monotonic() - start
    rng, kills, rounds = random.Random(seed), 0, 0
    while kills < KILLS:
        folder = root / str(rounds) / "run"
        while killed := forked(
            strategy, folder, boards, rng.uniform(0, whole_s / 4) if kills < KILLS else None
        ):
            kills += killed
        rounds += 1
    folders = [root / "run", *(root / str(i) / "run" for i in range(rounds))]
    done = [json.loads((folder / "done.json").read_text()) for folder in folders]
    json.dump({"kills": kills, "undisturbed": done[0], "killed": done[1:]}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
