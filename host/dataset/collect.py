"""Draws what a dataset still lacks and measures it on boards side by side; resumes at any time."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from host.artifact import Artifact
from host.boards.drift import DriftWatch
from host.boards.protocol import MeasureProtocol
from host.boards.session import BoardSession
from host.crew import Crew
from host.dataset.records import Observation, Records, Sample
from host.dataset.sampling import Sampler
from host.dataset.spaces import ProgramSpace, Row
from host.errors import (
    ArtifactRejected,
    BoardError,
    BoardUnreachable,
    BuildError,
    HilError,
    MeasurementFailed,
    UnsupportedLayer,
)
from host.store import Store
from protos.values import Profile

# An invalid measurement is repeated; after so many the board is given up.
ATTEMPTS = 3
# Programs that wait for each board, beside the one that it measures.
AHEAD = 1

Advance = Callable[[int, str], None]
# A measurement by name and, where the board can, a profile; or why the program has none.
Outcome = tuple[str, Profile | None] | HilError


@dataclass(frozen=True, slots=True)
class Watched:
    """A leased board, and what looks at its anchor between jobs; None for one that nobody can."""

    session: BoardSession
    watch: DriftWatch | None = None

    def revive(self, why: BoardError) -> None:
        """Go on with a board that went away; raises BoardError where it stays away."""
        self.session.revive(why)

    def before_job(self) -> None:
        """Look at the anchor where it is time; raises BoardDrifted."""
        if self.watch:
            self.watch.before_job()

    def after_all(self) -> None:
        """Look a last time, so that what was measured since the last look stands or falls."""
        if self.watch and self.watch.jobs:
            self.watch.look()


# Boards that may stand in for each other; a sample is measured once by every lane.
Lane = Crew[Watched]


@dataclass
class Collector:
    """A space, how it is sampled, and the boards; `records` is what is there."""

    space: ProgramSpace
    sampler: Sampler
    records: Records
    lanes: Sequence[Lane]
    protocol: MeasureProtocol

    def collect(self, count: int, advance: Advance) -> int:
        """Go on until `count` samples are measured; return how many there are.

        Fewer where the space holds no more. What a board measured since the last good look at its
        anchor is measured again where it drifted. Raises BoardUnreachable when no board is left.
        """
        while missing := self._missing(count) or self._doubted(count):
            measured = self._measured(count)
            advance(measured, "")
            for sample in self._measure(missing):
                measured += 1
                advance(measured, sample.structure[:8])
        measured = self._measured(count)
        advance(measured, "")
        return measured

    def _measured(self, count: int) -> int:
        return len({number for number, _ in self.records.done() if number < count})

    def _doubted(self, count: int) -> list[Sample]:
        """Look at every board a last time; return what is missing again for it."""
        for number in self._alive:
            lane = self.lanes[number]
            for job in [lane.submit(Watched.after_all, place) for place in lane.alive]:
                with suppress(BoardError):  # it is dropped, and what it measured is missing
                    job.result()
        return self._missing(count)

    def _missing(self, count: int) -> list[Sample]:
        """Return what is drawn and not measured; more is drawn where that is nothing."""
        samples, done = self.records.samples(), self.records.done()
        missing = [s for s in samples[:count] if self._lacking(s, done)]
        if missing or len(samples) >= count:
            return missing
        more = min(count - len(samples), self.sampler.round or count)
        new = self.sampler.draw(self.space, more, samples, self._known())
        self.records.add_samples(new)
        return new

    def _lacking(self, sample: Sample, done: set[tuple[int, int]]) -> list[int]:
        """Return the lanes that have yet to measure a sample."""
        return [lane for lane in self._alive if (sample.number, lane) not in done]

    def _known(self) -> list[tuple[Sequence[Row], float]]:
        """Return kernel tables and milliseconds of all that was measured."""
        return [
            (o.rows, self.records.store.measurement(o.measurement).latency_ms.median)
            for o in self.records.observations()
            if o.measurement
        ]

    @property
    def _alive(self) -> list[int]:
        """The lanes that have a board left; raises BoardUnreachable for none."""
        alive = [number for number, lane in enumerate(self.lanes) if lane.alive]
        if not alive:
            reasons = [str(why) for lane in self.lanes for why in lane.dropped.values()]
            raise BoardUnreachable(f"no board is left: {'; '.join(reasons)}")
        return alive

    def _measure(self, samples: Sequence[Sample]) -> Iterator[Sample]:
        """Measure samples in order, the next ones being built meanwhile; yield those complete."""
        done = self.records.done()
        waiting: deque[Work] = deque()
        most = (1 + AHEAD) * max(len(lane.members) for lane in self.lanes)
        try:
            for sample in samples:
                waiting.append(Work(self, sample, self._lacking(sample, done)))
                if len(waiting) >= most:
                    yield self._finish(waiting.popleft())
            while waiting:
                yield self._finish(waiting.popleft())
        finally:
            for work in waiting:
                work.close()

    def _finish(self, work: Work) -> Sample:
        """Wait for a sample and keep what came of it."""
        try:
            for lane, job in work.jobs.items():
                if outcome := self._outcome(job):
                    self.records.add(self._observation(work, lane, outcome))
        finally:
            work.close()
        return work.sample

    def _outcome(self, job: Future[Outcome]) -> Outcome | None:
        """Wait for what came of a job, None where its boards are out.

        Another board may measure it later; raises BoardUnreachable where none is left.
        """
        try:
            return job.result()
        except BoardError:
            _ = self._alive
            return None

    def _observation(self, work: Work, lane: int, outcome: Outcome) -> Observation:
        if isinstance(outcome, HilError):
            return Observation(work.sample.number, lane, work.rows, error=str(outcome))
        name, profile = outcome
        return Observation(work.sample.number, lane, work.rows, name, profile)


class Work:
    """One sample: built once, and sent to every lane that lacks it."""

    def __init__(self, collector: Collector, sample: Sample, lanes: Sequence[int]) -> None:
        self.sample = sample
        self._folder = tempfile.TemporaryDirectory(prefix="hil-sample-")
        self.rows: tuple[Row, ...] = ()
        try:
            self.rows = collector.space.plan(sample.spec).rows
            artifact = collector.space.build(sample.spec, Path(self._folder.name))
        except (BuildError, UnsupportedLayer) as e:
            self.jobs = {lane: _known(e) for lane in lanes}
            return
        kept = collector.records.store
        job = partial(take, artifact=artifact, protocol=collector.protocol, store=kept)
        # That of its number, or the next one that is left.
        self.jobs = {lane: collector.lanes[lane].submit(job, sample.number) for lane in lanes}

    def close(self) -> None:
        """Remove the artifact."""
        self._folder.cleanup()


def _known(error: HilError) -> Future[Outcome]:
    done: Future[Outcome] = Future()
    done.set_result(error)
    return done


def take(board: Watched, artifact: Artifact, protocol: MeasureProtocol, store: Store) -> Outcome:
    """Measure and profile a program; what fails because of the program is returned as an error.

    Kept before the next look at the board, so that it falls with the board. Raises BoardError where
    that measures nothing valid, BoardDrifted where it has drifted.
    """
    board.before_job()
    session = board.session
    try:
        for _ in range(ATTEMPTS):
            measurement = session.measure(artifact, protocol, synthetic_weights=True)
            if measurement.verdict != "invalid":
                return store.add_measurement(measurement), _profile(session, artifact)
    except (MeasurementFailed, ArtifactRejected) as e:
        return e
    raise BoardError(
        f"{session.info.name}: {ATTEMPTS} measurements were invalid "
        f"({'; '.join(measurement.reasons)}); mend the board, then collect again"
    )


def _profile(board: BoardSession, artifact: Artifact) -> Profile | None:
    if "profile" not in board.info.capabilities:
        return None
    return board.profile(artifact, synthetic_weights=True)
