"""Searches that faults strike, over simulated and local boards: what is lost, and who notices.

Every round strikes once with every fault on every kind of board. `--network NAME` takes a kind of
board instead of both, `--method NAME` a fault instead of all, `--threads 1` one trial at a time.
With `--out FOLDER` outcomes are kept there, and gone on with.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hil_lab.bench.faults.boards import Setting
from hil_lab.bench.faults.child import network
from hil_lab.bench.faults.kinds import FAULTS, Fault
from hil_lab.bench.faults.shim import Shim
from hil_lab.bench.faults.trial import Outcome, trial, undisturbed
from hil_lab.bench.report import Options, Report, Show, Table, number
from hil_lab.inventory import LOCAL
from hil_lab.simboard.board import KIND
from host.errors import CallerError, WorldError
from host.registry import did_you_mean

ROUNDS, WIDTH, OUTCOMES = 6, 2, "outcomes.jsonl"
KINDS = (KIND, LOCAL)
NOTICED_BAR_S, COUNT_BAR = 10.0, 200
THIS = "hil_lab.bench.faults.child"


@dataclass(frozen=True)
class Strike:
    """One fault that is to be tried."""

    kind: str
    fault: Fault
    seed: int

    @property
    def name(self) -> str:
        """A name for its folder."""
        return f"{self.seed}-{self.fault.name}-{self.kind}".replace(" ", "-").replace(":", "-")


def report(options: Options) -> Report:
    """Strike, and count."""
    strikes = list(_strikes(options))
    known = Outcomes(Path(options.folder, OUTCOMES) if options.folder else None)
    missing = [strike for strike in strikes if known.of(strike) is None]
    if missing:
        _strike(options, missing, known)
    outcomes = [outcome for strike in strikes if (outcome := known.of(strike))]
    return Report(
        samples={"faults": [outcome.to_dict() for outcome in outcomes]},
        tables=[_table(outcomes)],
        shows=list(_shows(outcomes, whole=len(strikes) >= COUNT_BAR)),
        missing=["emulated boards: no machine image was given"],
    )


def _strikes(options: Options) -> Iterator[Strike]:
    """Yield what is to be tried, round by round."""
    names = [fault.name for fault in FAULTS]
    for chosen, known in ((options.methods, names), (options.networks, KINDS)):
        for name in chosen:
            if name not in known:
                raise CallerError(f'"{name}" is not known here{did_you_mean(name, known)}')
    for seed in range(1, (options.rounds or ROUNDS) + 1):
        for fault in FAULTS:
            if not options.methods or fault.name in options.methods:
                for kind in options.networks or KINDS:
                    yield Strike(kind, fault, seed)


@contextmanager
def prepared() -> Iterator[tuple[Setting, Path]]:
    """Yield what all trials share, and a folder for them."""
    with tempfile.TemporaryDirectory(prefix="hil-faults-") as scratch:
        folder = Path(scratch)
        shim = Shim.built(folder)
        setting = Setting(folder / "network.safetensors", shim)
        before = dict(os.environ)
        # The server that processes are forked from takes its environment now.
        os.environ.update({**shim.environment, "OMP_NUM_THREADS": "1"})
        setting.fork.set_forkserver_preload([THIS])
        try:
            trained = setting.start(network, str(setting.network))
            trained.join()
        finally:
            os.environ.clear()
            os.environ.update(before)
        if trained.exitcode:
            raise WorldError("the network of the trials could not be trained")
        yield setting, folder


def _strike(options: Options, strikes: Sequence[Strike], known: Outcomes) -> None:
    """Strike, two at a time where there are cores, and remember what became of it."""
    width = next(iter(options.threads), min(WIDTH, os.cpu_count() or 1))
    with (
        prepared() as (setting, folder),
        options.reporter.progress("faults", f"{len(strikes)} faults", len(strikes)) as advance,
        ThreadPoolExecutor(width) as pool,
    ):
        kinds = dict.fromkeys(strike.kind for strike in strikes)
        alone = {kind: undisturbed(setting, kind, folder / f"alone-{kind}") for kind in kinds}

        def one(strike: Strike) -> Outcome:
            kind, there = strike.kind, folder / strike.name
            return trial(setting, kind, strike.fault, strike.seed, there, alone[kind])

        for done, outcome in enumerate(pool.map(one, strikes), 1):
            known.add(outcome)
            advance(done, outcome.fault)


@dataclass
class Outcomes:
    """What became of strikes, by fault, board and seed; kept in a file where there is one."""

    path: Path | None
    _found: dict[tuple[str, str, int], Outcome] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.path and self.path.exists():
            for line in self.path.read_text().split("\n")[:-1]:
                self._take(Outcome.from_dict(json.loads(line)))

    def of(self, strike: Strike) -> Outcome | None:
        """Return what became of a strike, None where it is still to come."""
        return self._found.get((strike.fault.name, strike.kind, strike.seed))

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome."""
        self._take(outcome)
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(outcome.to_dict()) + "\n")

    def _take(self, outcome: Outcome) -> None:
        self._found[outcome.fault, outcome.board, outcome.seed] = outcome


def _table(outcomes: Sequence[Outcome]) -> Table:
    rows = []
    for key in dict.fromkeys((o.fault, o.board) for o in outcomes):
        each = [o for o in outcomes if (o.fault, o.board) == key]
        noticed = [o.noticed_s for o in each if o.noticed_s is not None]
        slowest = number(max(noticed, default=None), 1)
        well = f"{sum(o.well for o in each)} of {len(each)}"
        seconds = number(max(o.seconds for o in each), 1)
        rows.append([*key, well, f"{len(noticed)}", slowest, seconds])
    columns = ("fault", "board", "ended the same", "noticed", "slowest, s", "longest trial, s")
    return Table(columns, rows)


def _shows(outcomes: Sequence[Outcome], *, whole: bool) -> Iterator[Show]:
    judged = [outcome.judged for outcome in outcomes]
    other = sum(not j.same_policy for j in judged)
    dead = [o.noticed_s for o in outcomes if o.dead and o.struck and o.noticed_s is not None]
    yield Show("faults injected", len(outcomes), "", COUNT_BAR if whole else None)
    yield Show("searches that ended with another policy", other, "", 0, "at most")
    yield Show("measurements lost", sum(j.lost for j in judged), "", 0, "at most")
    yield Show("measurements counted twice", sum(j.twice for j in judged), "", 0, "at most")
    yield Show("stale numbers", sum(j.stale for j in judged), "", 0, "at most")
    yield Show("errors that are no sentence", sum(bool(o.bug) for o in outcomes), "", 0, "at most")
    if dead:
        yield Show("slowest notice of a dead peer", max(dead), "s", NOTICED_BAR_S, "at most")
    unnoticed = sum(o.dead and o.struck and o.noticed_s is None for o in outcomes)
    yield Show("dead peers that nobody missed", unnoticed, "")
    yield Show(
        "faults that came after the search had ended", sum(not o.struck for o in outcomes), ""
    )
