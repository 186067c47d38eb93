"""A dataset that is killed twice: whether it loses or repeats anything, and what can be learned.

`hil-lab dataset collect` runs as a process of its own over four simulated boards; kept in `--out`.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq

from hil_lab.bench.report import Options, Report, Show, Table
from hil_lab.dataset import STORE
from host.dataset.table import kernels_of, learned
from host.errors import WorldError
from host.stats import spearman

COUNT, BOARDS, KILLS = 500, 4, 2
HELD_BACK = 5  # every so-manieth row
POLL_S, PATIENCE_S = 0.05, 1800.0
RECIPE = """what = "kernels"
count = {count}
sample = "random"
protocol = "quick"
board = [{boards}]
"""


@dataclass(frozen=True, slots=True)
class Collected:
    """What is in the exported file, and what it teaches."""

    rows: int
    programs: int
    trusted: int
    boards: int
    kills: int
    read_back: float
    rank: float
    seconds: float


def report(options: Options) -> Report:
    """Collect, kill, resume, export, read and learn."""
    count = options.rounds or COUNT
    with _folder(options.folder) as folder:
        collected = _collected(folder, count)
    named = (("programs asked", count), ("rows", collected.rows), ("boards", collected.boards))
    return Report(
        samples={"dataset": asdict(collected)},
        tables=[Table(("", ""), [[name, f"{value}"] for name, value in named])],
        shows=list(_shows(collected, count)),
    )


def _shows(found: Collected, count: int) -> Iterator[Show]:
    killed = f"{count} kernels over {found.boards} boards, killed {found.kills} times"
    yield Show(f"{killed}: rows missing", count - found.programs, "", 0, "at most")
    yield Show(f"{killed}: rows twice", found.rows - found.programs, "", 0, "at most")
    yield Show(f"{killed}: share of cells that pandas reads back", found.read_back, "", 1.0)
    yield Show("forecast from the file, held-back rows: rank correlation", found.rank, "", 0.9)
    yield Show("trusted rows", found.trusted, "")
    yield Show("collecting took", found.seconds, "s")


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    if name:
        Path(name).mkdir(parents=True, exist_ok=True)
        yield Path(name)
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)


def _collected(folder: Path, count: int) -> Collected:
    boards = ", ".join(f'"sim:rpi4-{n}"' for n in range(1, BOARDS + 1))
    (folder / "kernels.toml").write_text(RECIPE.format(count=count, boards=boards))
    start = time.monotonic()
    for kill in range(1, KILLS + 1):
        _until(folder, count * kill // (KILLS + 1))
    _run(folder, "collect", "kernels.toml", "--json").wait()
    seconds = time.monotonic() - start
    if _run(folder, "export", "kernels", "-o", "kernels.parquet", "--json").wait():
        raise WorldError(f"the export failed: see {folder}")
    rows = pq.read_table(folder / "kernels.parquet").to_pylist()
    held, told = rows[::HELD_BACK], [r for i, r in enumerate(rows) if i % HELD_BACK]
    forecast = learned(told)([kernels_of(row) for row in held]).ms
    return Collected(
        rows=len(rows),
        programs=len({row["structure"] for row in rows}),
        trusted=sum(row["verdict"] == "trusted" for row in rows),
        boards=len({row["board"] for row in rows}),
        kills=KILLS,
        read_back=_read_back(folder / "kernels.parquet", rows),
        rank=spearman(forecast, [row["latency_ms"] for row in held]),
        seconds=seconds,
    )


def _until(folder: Path, rows: int) -> None:
    """Let the collection run until so many rows are there, and kill it."""
    process = _run(folder, "collect", "kernels.toml", "--json")
    deadline = time.monotonic() + PATIENCE_S
    while _observed(folder) < rows:
        if process.poll() is not None or time.monotonic() > deadline:
            raise WorldError(f"the collection ended by itself at {_observed(folder)} rows")
        time.sleep(POLL_S)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def _run(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hil_lab.cli", "dataset", *arguments]
    path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _observed(folder: Path) -> int:
    path = folder / "datasets" / "kernels" / STORE
    if not path.is_file():
        return 0
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    try:
        return int(db.execute("SELECT count(*) FROM observation").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # the tables are being made
    finally:
        db.close()


def _read_back(path: Path, rows: list[dict[str, object]]) -> float:
    """Return the share of cells that pandas reads, writes and reads again as they were."""
    import pandas as pd

    frame = pd.read_parquet(path)
    again = path.with_name("again.parquet")
    frame.to_parquet(again)
    read = pq.read_table(again).to_pylist()
    pairs = [
        json.dumps(one[name]) == json.dumps(other.get(name))
        for one, other in zip(rows, read, strict=True)
        for name in one
    ]
    return sum(pairs) / len(pairs)
