"""One board, the network to it and the hosts that search on it, each a process of its own."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from hil_lab.bench.faults.boards import (
    Board,
    Setting,
    end,
    limit_files,
    pid_of,
    wait_until,
)
from hil_lab.bench.faults.child import NAME, RUN, TOLD, search
from hil_lab.bench.faults.link import LOOPBACK, Link
from hil_lab.inventory import DEFAULT_INVENTORY
from hil_lab.recipe import FinetuneTable, MeasureTable, Recipe, SearchTable
from hil_lab.runs import RECIPE, RUN_FORMAT, Run

EPISODES, TARGET = 4, 0.5
STORE = "runs/store.db"
Line = dict[str, Any]


@dataclass
class Host:
    """A search in a folder, started as often as it takes."""

    setting: Setting
    folder: Path
    process: BaseProcess | None = None
    starts: int = 0

    def prepare(self, board: Board, link: Link) -> None:
        """Write the run and an inventory of the one board, which a link leads to."""
        self.folder.mkdir(parents=True)
        entry = {"kind": board.kind, "address": f"{LOOPBACK}:{link.port}", **board.wire}
        lines = [f"{key} = {json.dumps(str(value))}" for key, value in entry.items()]
        inventory = "\n".join([f"[boards.{NAME}]", *lines, ""])
        (self.folder / DEFAULT_INVENTORY).write_text(inventory)
        recipe = recipe_of(self.setting.network)
        kept = {"format": RUN_FORMAT, "recipe": recipe.to_dict(), "versions": {}}
        Run(self.folder / RUN).write(RECIPE, kept)

    def start(self) -> None:
        """Start the search, or go on with it."""
        self.starts += 1
        self.process = self.setting.start(search, str(self.folder))

    def kill(self) -> None:
        """Kill the search; it leaves its lease behind."""
        end(self.process)

    def jump(self, seconds: int) -> None:
        """Set the search's wall clock forward, or back."""
        self.setting.shim.jump(pid_of(self.process), seconds)

    @property
    def runs(self) -> bool:
        """Whether the search is still at it."""
        return self.process is not None and self.process.is_alive()

    def told(self) -> list[Line]:
        """Return what the search told so far."""
        path = self.folder / TOLD
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def done(self) -> Line | None:
        """Return how it ended well, None where it did not."""
        return next((line for line in self.told() if line["what"] == "done"), None)

    def noticed(self, since_s: float) -> Line | None:
        """Return the first that was told of trouble since an instant."""
        later = (line for line in self.told() if line["at_s"] >= since_s)
        return next((line for line in later if line["what"] != "done"), None)

    def measured(self) -> int:
        """Return how many measurements are in the store."""
        return len(self.rows("SELECT id FROM measurement"))

    def rows(self, query: str) -> list[Any]:
        """Return rows of the store; none where it is not made yet."""
        path = self.folder / STORE
        if not path.exists():
            return []
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as db:
                return list(db.execute(query))
        except sqlite3.OperationalError:
            return []

    def limit_files(self, size_bytes: int) -> None:
        """Let no file of the search grow beyond a size: what a full disk does to it."""
        limit_files(pid_of(self.process), size_bytes)


@dataclass
class Lab:
    """A board, its link and a host; `rng` chooses instants."""

    board: Board
    link: Link
    host: Host
    rng: random.Random
    rivals: list[Host] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what a fault did, where that varies

    @property
    def hosts(self) -> list[Host]:
        """All hosts that search on the board."""
        return [self.host, *self.rivals]

    def add_rival(self) -> None:
        """Start another host's search, in a folder and a store of its own."""
        rival = Host(self.host.setting, self.host.folder.with_name(f"rival-{len(self.rivals) + 1}"))
        rival.prepare(self.board, self.link)
        self.rivals.append(rival)
        rival.start()

    def until_measured(self, count: int) -> None:
        """Wait until so many measurements are kept, and a random while more."""
        wait_until(
            lambda: self.host.measured() >= count or not self.host.runs,
            f"{count} measurements",
        )
        time.sleep(self.rng.uniform(0.0, 0.3))

    def until_sending(self) -> None:
        """Wait until a program is on its way to the board."""
        before = self.link.sent_bytes
        wait_until(
            lambda: self.link.sent_bytes > before + 12_000 or not self.host.runs, "an upload"
        )


@contextmanager
def lab(setting: Setting, kind: str, folder: Path, seed: int, corrupt: int = 0) -> Iterator[Lab]:
    """Yield a lab whose board is on and whose search waits to be started."""
    folder.mkdir(parents=True)
    board = setting.board(kind, folder, corrupt)
    host = Host(setting, folder / "host")
    board.start()
    link = Link(board.port)
    made = Lab(board, link, host, random.Random(seed))
    try:
        host.prepare(board, link)
        yield made
    finally:
        link.close()
        for each in made.hosts:
            each.kill()
        board.close()


def recipe_of(network: Path) -> Recipe:
    """Return the search of every trial: few episodes, few images, the shortest protocol."""
    return Recipe(
        model="digits-cnn",
        data="digits",
        checkpoint=str(network),
        board=(NAME,),
        validation_images=64,
        search=SearchTable("random", target=(TARGET,), episodes=EPISODES, seed=3, round_to=16),
        finetune=FinetuneTable(search_steps=0, reconstruction=False),
        measure=MeasureTable("quick", "quick"),
    )
