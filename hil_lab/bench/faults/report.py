"""Searches that faults strike, over several kinds of boards: what is lost, and who notices.

Every round strikes once with every fault on every kind of board, but on an emulated one, which is
slow, every fault strikes once in all. `--network NAME` takes a kind of board instead of all,
`--method NAME` a fault instead of all, `--threads 1` one trial at a time, `--image FOLDER` is the
emulated machine's. With `--out FOLDER` outcomes are kept there, and gone on with.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from hil_lab.bench.faults.boards import Setting
from hil_lab.bench.faults.child import network
from hil_lab.bench.faults.emulated import provisioned
from hil_lab.bench.faults.kinds import FAULTS, Fault
from hil_lab.bench.faults.shim import Shim
from hil_lab.bench.faults.trial import Outcome, trial, undisturbed
from hil_lab.bench.report import Options, Report, Show, Table, number
from hil_lab.emulated import default_image, lacking
from hil_lab.inventory import EMULATED, LOCAL
from hil_lab.simboard.board import KIND
from host.errors import CallerError, WorldError
from host.registry import did_you_mean

ROUNDS, WIDTH, OUTCOMES = 6, 2, "outcomes.jsonl"
# A trial on an emulated machine takes a minute or two, and both cores.
EMULATED_ROUNDS, EMULATED_WIDTH = 1, 1
KINDS = (KIND, LOCAL, EMULATED)
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
    image = Path(options.image) if options.image else default_image()
    kinds, missing = _kinds(options.networks, lacking(image))
    strikes = list(strikes_of(kinds, options.methods, options.rounds or ROUNDS))
    known = Outcomes(Path(options.folder, OUTCOMES) if options.folder else None)
    to_come = [strike for strike in strikes if known.of(strike) is None]
    if to_come:
        _strike(options, image, to_come, known)
    outcomes = [outcome for strike in strikes if (outcome := known.of(strike))]
    return Report(
        samples={"faults": [outcome.to_dict() for outcome in outcomes]},
        tables=[_table(outcomes)],
        shows=list(_shows(outcomes, whole=len(strikes) >= COUNT_BAR)),
        missing=missing,
    )


def _kinds(chosen: Sequence[str], lacks: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the kinds of boards to strike, and what is missing; an emulated one may lack an image.

    Raises CallerError where that was asked for by name.
    """
    for name in chosen:
        if name not in KINDS:
            raise CallerError(f'"{name}" is not known here{did_you_mean(name, KINDS)}')
    kinds = tuple(kind for kind in KINDS if kind in (chosen or KINDS))
    if EMULATED not in kinds or not lacks:
        return kinds, []
    if chosen:
        raise CallerError(f"no emulated board: {lacks}")
    rest = tuple(kind for kind in kinds if kind != EMULATED)
    return rest, [f"faults on an emulated board: {lacks}"]


def strikes_of(kinds: Sequence[str], methods: Sequence[str], rounds: int) -> Iterator[Strike]:
    """Yield what is to be tried, round by round; raises CallerError for an unknown fault."""
    names = [fault.name for fault in FAULTS]
    for name in methods:
        if name not in names:
            raise CallerError(f'"{name}" is not known here{did_you_mean(name, names)}')
    for seed in range(1, rounds + 1):
        for fault in FAULTS:
            if not methods or fault.name in methods:
                yield from (Strike(kind, fault, seed) for kind in kinds if _fits(kind, fault, seed))


def _fits(kind: str, fault: Fault, seed: int) -> bool:
    """Whether a fault strikes a kind in a round; inside TLS nobody flips a bit."""
    return kind != EMULATED or (seed <= EMULATED_ROUNDS and not fault.corrupt)


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


def _strike(options: Options, image: Path, strikes: Sequence[Strike], known: Outcomes) -> None:
    """Strike, and remember what became of it."""
    total = len(strikes)
    with (
        prepared() as (setting, folder),
        options.reporter.progress("faults", f"{total} faults", total) as advance,
    ):
        for done, outcome in enumerate(_all(options, image, setting, folder, strikes), 1):
            known.add(outcome)
            advance(done, outcome.fault)


def _all(
    options: Options, image: Path, setting: Setting, folder: Path, strikes: Sequence[Strike]
) -> Iterator[Outcome]:
    """Yield what becomes of all; the emulated machine comes last, and has the cores for itself."""
    slow = [strike for strike in strikes if strike.kind == EMULATED]
    quick = [strike for strike in strikes if strike.kind != EMULATED]
    width = next(iter(options.threads), min(WIDTH, os.cpu_count() or 1))
    yield from _outcomes(setting, folder, quick, width)
    if slow:
        with provisioned(image, folder / EMULATED, options.reporter.say) as there:
            emulated = replace(setting, made={EMULATED: there.board})
            yield from _outcomes(emulated, folder, slow, EMULATED_WIDTH)


def _outcomes(
    setting: Setting, folder: Path, strikes: Sequence[Strike], width: int
) -> Iterator[Outcome]:
    """Yield what becomes of strikes, so many at a time."""
    kinds = dict.fromkeys(strike.kind for strike in strikes)
    alone = {kind: undisturbed(setting, kind, folder / f"alone-{kind}") for kind in kinds}

    def one(strike: Strike) -> Outcome:
        kind, there = strike.kind, folder / strike.name
        return trial(setting, kind, strike.fault, strike.seed, there, alone[kind])

    with ThreadPoolExecutor(width) as pool:
        yield from pool.map(one, strikes)


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
    kinds = len({outcome.board for outcome in outcomes})
    yield Show("kinds of boards struck", kinds, "", len(KINDS) if whole else None)
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
