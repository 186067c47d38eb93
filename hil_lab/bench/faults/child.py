"""The processes that faults strike: a search on a tiny network, and the agent of a board.

They are forked off a server that has imported this module, so that a start costs no imports.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any

import sklearn.datasets  # noqa: F401  imported before the fork
import torch

from device_agent.local import local_machine
from device_agent.measure import Machine
from device_agent.server import ServerOptions, make_server
from hil_lab.bench.faults.shim import SYNCED
from hil_lab.console import Advance
from hil_lab.experiment import leased
from hil_lab.runs import Run
from hil_lab.simboard.board import KIND, SimSettings, sim_machine
from hil_lab.simboard.faults import CorruptUpload
from hil_lab.workbench import Workbench, save_network
from host.data import load_data
from host.errors import HilError
from host.search.episode import Episode, best
from host.train import default_training, train

MODEL = "digits-cnn"
NAME = "b1"  # what every board is called
RUN, TOLD = "runs/trial", "told.jsonl"
# A holder that dies frees its board after so long; other hosts wait for it.
TTL_S = 6.0


@dataclass(frozen=True)
class Told:
    """A reporter that writes what is said to a file, with the monotonic time."""

    path: Path

    def say(self, text: str) -> None:
        """Note a line."""
        self.write("said", text=text)

    @contextmanager
    def progress(self, name: str, what: str, total: int) -> Iterator[Advance]:
        """Yield a function that does nothing."""

        def advance(done: int, text: str = "") -> None:
            return None

        yield advance

    def write(self, what: str, **fields: Any) -> None:
        """Append a line."""
        line = json.dumps({"at_s": time.monotonic(), "what": what, **fields})
        with self.path.open("a") as file:
            file.write(line + "\n")


def _end_with_parent() -> None:
    """End when the benchmark does, even where it was killed."""
    parent = multiprocessing.parent_process()

    def watch(sentinel: int) -> None:
        connection.wait([sentinel])
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def search(folder: str) -> None:
    """Start or go on with the search of a folder, and tell how it went."""
    _end_with_parent()
    os.chdir(folder)
    torch.set_num_threads(1)
    told = Told(Path(TOLD))
    try:
        _search(Run(Path(RUN)), told)
    except HilError as e:
        told.write("ended", error=str(e))
    except Exception:
        told.write("bug", error=traceback.format_exc())


def _search(run: Run, told: Told) -> None:
    bench = Workbench(run, told)
    with run.locked(), leased(bench, TTL_S) as made:
        try:
            ((_, episodes),) = made.searches().items()
        except HilError as e:
            # Giving a dead board back takes its time; this is when the search knew.
            told.write("failed", error=str(e))
            raise
        top = best(episodes).policy.digest()
        told.write("done", best=top, episodes=[_row(e) for e in episodes])


def _row(episode: Episode) -> dict[str, Any]:
    evaluation = episode.evaluation
    return {
        "number": episode.number,
        "policy": episode.policy.digest(),
        "accuracy": evaluation.accuracy,
        "latency_ms": episode.latency_ms,
        "measurements": list(evaluation.measurements),
    }


def agent(kind: str, port: int, state: str, synced: str, corrupt: int) -> None:
    """Serve a board until killed; `corrupt` uploads arrive with a flipped bit."""
    _end_with_parent()
    os.environ[SYNCED] = synced
    wire = (CorruptUpload(corrupt),) if corrupt else ()
    options = ServerOptions(bind=f"127.0.0.1:{port}", interceptors=wire)
    server, _ = make_server(_machine(kind), Path(state), options)
    server.start()
    threading.Event().wait()


def _machine(kind: str) -> Machine:
    return sim_machine(NAME, SimSettings()) if kind == KIND else local_machine(NAME)


def network(path: str) -> None:
    """Train the network of all trials, a little, and keep it as a checkpoint."""
    torch.set_num_threads(1)
    data = load_data("digits", None)
    training = replace(default_training(MODEL, data), epochs=1)
    save_network(train(MODEL, data, training=training, seed=0).network, Path(path))
