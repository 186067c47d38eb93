"""The boards of a run: reached, found to be of one kind, leased, and asked as its recipe says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from hil_lab.console import Reporter
from hil_lab.held import LEASE_WAIT_S, care_of
from hil_lab.inventory import EMULATED, LOCAL, open_board
from hil_lab.workbench import Workbench
from host.artifact import Artifact
from host.boards.client import BoardClient
from host.boards.drift import DriftWatch
from host.boards.protocol import PROTOCOLS, MeasureProtocol
from host.boards.session import BoardSession
from host.boards.types import BoardInfo
from host.crew import OnDrop
from host.errors import BoardError, BoardUnreachable, CallerError
from host.fleet import QUANTILES, FleetMeter
from host.lower.build import Builder
from host.meter import Meter
from host.policy import uncompressed
from host.rack import Rack
from host.registry import did_you_mean
from host.store import Store

LEASE_TTL_S = 60.0
PROGRAM, MANIFEST = "reference", "manifest.json"
BoardMeter = FleetMeter | Rack
S = TypeVar("S")
T = TypeVar("T")


@dataclass
class LeasedBoards:
    """The boards that a run holds: each for itself, or as a fleet.

    `anchor` is the program by which they are watched for drift.
    """

    bench: Workbench
    sessions: Sequence[BoardSession]
    store: Store
    builder: Builder
    anchor: Artifact | None = None
    _watches: dict[str, DriftWatch | None] = field(default_factory=dict, init=False)
    _dropped: dict[int, BoardError] = field(default_factory=dict)
    _racks: list[Rack] = field(default_factory=list)

    @property
    def fleet(self) -> bool:
        """Whether a figure is one of all boards together."""
        return self.bench.recipe.measure.fleet in QUANTILES

    @property
    def width(self) -> int:
        """How many policies are evaluated side by side: a fleet measures each on all boards.

        It is the recipe's, whatever boards are left: a search that resumes asks for the same.
        """
        return 1 if self.fleet else len(self.bench.recipe.board)

    @cached_property
    def meter(self) -> BoardMeter:
        """Latency with the search's protocol."""
        return self.meter_for(self.bench.recipe.measure.search)

    def meter_for(self, name: str) -> BoardMeter:
        """Return a meter with a protocol by name: of a fleet, or of boards that take turns."""
        if name not in PROTOCOLS:
            raise CallerError(f'unknown protocol "{name}"{did_you_mean(name, PROTOCOLS)}')
        protocol, recipe = PROTOCOLS[name], self.bench.recipe
        meters = [
            Meter(self.builder, each, self.store, protocol, watch=self._watch(each))
            for each in self.sessions
        ]
        if self.fleet:
            return FleetMeter.over(meters, recipe.measure.fleet)
        rack = Rack(meters, lambda why: say_dropped(self.bench, why), self._dropped)
        self._racks.append(rack)
        return rack

    def _watch(self, session: BoardSession) -> DriftWatch | None:
        """Return what watches a board drift; one for all meters of the board."""
        if self.anchor is None:
            return None
        name = session.info.name
        if name not in self._watches:
            protocol = PROTOCOLS[self.bench.recipe.measure.search]
            self._watches[name] = watch_of(session, self.store, self.anchor, protocol)
        return self._watches[name]

    @property
    def session(self) -> BoardSession:
        """The first board that is left; the first of all where none is."""
        left = (each for place, each in enumerate(self.sessions) if place not in self._dropped)
        return next(left, self.sessions[0])

    def close(self) -> None:
        """Wait for what still runs."""
        for rack in self._racks:
            rack.close()


def watch_of(
    session: BoardSession, store: Store, anchor: Artifact, protocol: MeasureProtocol
) -> DriftWatch | None:
    """Return what watches a board drift, None for this machine and for emulated ones.

    Nobody keeps this machine still for hours, and an emulator's time means nothing.
    """
    if session.info.kind in (LOCAL, EMULATED):
        return None
    return DriftWatch(session, store, anchor, protocol)


@dataclass(frozen=True)
class Wanted:
    """Boards that are to be held: who for, and whether one may stand in for another."""

    boards: Sequence[str]
    holder: str
    reporter: Reporter
    on_drop: OnDrop
    all_needed: bool = False
    # How long a board stays ours when we are gone.
    ttl_s: float = LEASE_TTL_S

    @classmethod
    def by(cls, bench: Workbench, ttl_s: float = LEASE_TTL_S) -> Wanted:
        """Return what a run wants; a fleet is all of its boards."""
        recipe = bench.recipe
        fleet = recipe.measure.fleet in QUANTILES
        return cls(
            recipe.board,
            bench.run.name,
            bench.reporter,
            lambda why: say_dropped(bench, why),
            all_needed=fleet,
            ttl_s=ttl_s,
        )

    def each(self, boards: Sequence[S], attempt: Callable[[S], T]) -> list[T]:
        """Return what an attempt gives for every board that does not fail it.

        Raises the first board's error where no other may stand in: there is one board, or all are
        needed.
        """
        found: list[T] = []
        failed: list[BoardError] = []
        for board in boards:
            try:
                found.append(attempt(board))
            except BoardError as e:
                if len(self.boards) == 1 or self.all_needed:
                    raise
                failed.append(e)
        if not found:
            raise BoardUnreachable(f"no board is left: {'; '.join(map(str, failed))}")
        for error in failed:
            self.on_drop(error)
        return found


@dataclass(frozen=True, slots=True)
class Reached:
    """A board that answered, by the name that it is called here."""

    name: str
    client: BoardClient


def reach(wanted: Wanted, stack: ExitStack) -> tuple[list[Reached], BoardInfo]:
    """Open boards until the stack ends; return those that answer and their kind.

    Raises CallerError where they are of several kinds, BoardError as `Wanted.each` does.
    """

    def described(name: str) -> tuple[Reached, BoardInfo]:
        client = stack.enter_context(open_board(name))
        return Reached(name, client), client.describe()

    found = wanted.each(wanted.boards, described)
    (_, first), *others = found
    for _, info in others:
        if (info.kind, info.arch) != (first.kind, first.arch):
            raise CallerError(
                f"board: {first.name} is {first.kind} ({first.arch}) and {info.name} is "
                f"{info.kind} ({info.arch}); name boards of one kind"
            )
    return [board for board, _ in found], first


def lease(wanted: Wanted, stack: ExitStack, boards: Sequence[Reached]) -> list[BoardSession]:
    """Lease boards until the stack ends, waiting for their users, never for a repair.

    One that goes away meanwhile is waited for, and switched off and on where it has a supply.
    """

    def session(board: Reached) -> BoardSession:
        care = care_of(board.name, wanted.reporter)
        lasting = board.client.lease(wanted.holder, wanted.ttl_s, LEASE_WAIT_S, care=care)
        return stack.enter_context(lasting)

    return wanted.each(boards, session)


def say_dropped(bench: Workbench, why: BoardError) -> None:
    """Say that the search goes on without a board, and write it down."""
    bench.reporter.say(f"dropped  {why}; going on without this board")
    bench.run.event("board dropped", why=str(why))


def reference_program(bench: Workbench, builder: Builder) -> Artifact:
    """Return the optimised fp32 program, for latency alone, built once per run.

    It never changes, so it is also the anchor that boards are watched by.
    """
    folder, subject = bench.run.path(PROGRAM), bench.subject
    if (folder / MANIFEST).is_file():
        return Artifact.load(folder)
    return builder.build(subject.network, uncompressed(subject.graph), folder)
