"""Boards that measure side by side, one program each; a board that fails hands its program on.

Which board measures what depends on the place of a program alone, never on who is faster: a search
that is run again asks the same boards for the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from torch import nn

from host.artifact import Artifact
from host.errors import BoardError, BoardUnreachable
from host.evaluate import Figures
from host.layer_events import Events
from host.meter import Meter
from host.policy import Policy

T = TypeVar("T")
# Is told why a board is out.
OnDrop = Callable[[BoardError], None]


def ignore(why: BoardError) -> None:
    """Do nothing."""


class Rack:
    """A ProgramMeter over several boards: what was started is measured meanwhile.

    Programs are built in the caller's thread; each board has a thread that waits for it.
    """

    def __init__(
        self,
        meters: Sequence[Meter],
        on_drop: OnDrop = ignore,
        dropped: dict[int, BoardError] | None = None,
    ) -> None:
        if not meters:
            raise ValueError("a rack needs at least one board")
        self.meters = tuple(meters)
        # By place and why; racks of the same boards share it.
        self.dropped = {} if dropped is None else dropped
        self._on_drop = on_drop
        self._workers = [ThreadPoolExecutor(1) for _ in self.meters]
        self._jobs: dict[str, Future[Figures]] = {}

    def start(self, network: nn.Module, policy: Policy, place: int) -> None:
        """Build a program and let the board of its place measure it; started once, it is enough."""
        if policy.digest() in self._jobs:
            return
        folder = tempfile.TemporaryDirectory()
        artifact = self.meters[0].artifact(network, policy, Path(folder.name))
        job = self.measure(artifact, place)
        job.add_done_callback(lambda _: folder.cleanup())
        self._jobs[policy.digest()] = job

    def figures(self, network: nn.Module, policy: Policy) -> Figures:
        """Wait for the figures of a program; one that was not started is started now.

        Raises BoardUnreachable when no board is left that could measure it.
        """
        self.start(network, policy, 0)
        return self._jobs.pop(policy.digest()).result()

    def of(self, artifact: Artifact) -> Figures:
        """Return the figures of a built program, from the first board that is left."""
        return self.measure(artifact, 0).result()

    def profile(self, network: nn.Module, policy: Policy) -> Iterable[tuple[str, float]]:
        """Yield (layer, median milliseconds) of every kernel call on the first board left."""
        return self._first(lambda meter: list(meter.profile(network, policy)))

    def events(self, network: nn.Module, policy: Policy) -> Events:
        """Return the hardware events of every layer in one inference on the first board left."""
        return self._first(lambda meter: meter.events(network, policy))

    def _first(self, ask: Callable[[Meter], T]) -> T:
        for place in self.alive:
            try:
                return ask(self.meters[place])
            except BoardError as e:
                self._drop(place, e)
        raise self._none_left()

    @property
    def measured(self) -> int:
        """Measurements so far, on all boards."""
        return sum(meter.measured for meter in self.meters)

    def measure(self, artifact: Artifact, place: int) -> Future[Figures]:
        """Let the board of a place measure a built program, or the next one that is left."""
        done: Future[Figures] = Future()
        self._send(artifact, place % len(self.meters), done)
        return done

    @property
    def alive(self) -> list[int]:
        """The places of the boards that are left."""
        return [place for place in range(len(self.meters)) if place not in self.dropped]

    def close(self) -> None:
        """Forget what waits, and wait for what runs."""
        for worker in self._workers:
            worker.shutdown(wait=True, cancel_futures=True)

    def _send(self, artifact: Artifact, place: int, done: Future[Figures]) -> None:
        left = sorted(self.alive, key=lambda board: (board < place, board))
        if left:
            self._workers[left[0]].submit(self._measure, artifact, left[0], done)
        else:
            done.set_exception(self._none_left())

    def _measure(self, artifact: Artifact, place: int, done: Future[Figures]) -> None:
        try:
            if place in self.dropped:
                self._send(artifact, place, done)
            else:
                done.set_result(self.meters[place].of(artifact))
        except BoardError as e:
            self._drop(place, e)
            self._send(artifact, place, done)
        except Exception as e:
            done.set_exception(e)

    def _drop(self, place: int, why: BoardError) -> None:
        self.dropped[place] = why
        if self.alive:
            self._on_drop(why)

    def _none_left(self) -> BoardUnreachable:
        reasons = "; ".join(map(str, self.dropped.values()))
        return BoardUnreachable(f"no board is left: {reasons}")
