"""Programs measured on several boards side by side: each is built here and sent to its place."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path

from torch import nn

from host.artifact import Artifact
from host.crew import Crew, OnDrop, ignore
from host.errors import BoardError
from host.evaluate import Figures
from host.layer_events import Events
from host.meter import Meter
from host.policy import Policy


class Rack:
    """A ProgramMeter over boards: what was started is measured meanwhile.

    One that goes away is brought back where that is possible, and its program measured then.
    Programs are built in the caller's thread; each board has a thread that waits for it.
    """

    def __init__(
        self,
        meters: Sequence[Meter],
        on_drop: OnDrop = ignore,
        dropped: dict[int, BoardError] | None = None,
    ) -> None:
        self._crew = Crew(meters, on_drop, dropped, lambda meter, why: meter.revive(why))
        self._jobs: dict[str, Future[Figures]] = {}

    @property
    def dropped(self) -> dict[int, BoardError]:
        """The boards that are out, by place, and why."""
        return self._crew.dropped

    @property
    def alive(self) -> list[int]:
        """The places of the boards that are left."""
        return self._crew.alive

    @property
    def meters(self) -> tuple[Meter, ...]:
        """The meter of every board."""
        return self._crew.members

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

    def measure(self, artifact: Artifact, place: int) -> Future[Figures]:
        """Let the board of a place measure a built program, or the next one that is left."""
        return self._crew.submit(lambda meter: meter.of(artifact), place)

    def profile(self, network: nn.Module, policy: Policy) -> Iterable[tuple[str, float]]:
        """Yield (layer, median milliseconds) of every kernel call on the first board left."""
        return self._crew.first(lambda meter: list(meter.profile(network, policy)))

    def events(self, network: nn.Module, policy: Policy) -> Events:
        """Return the hardware events of every layer in one inference on the first board left."""
        return self._crew.first(lambda meter: meter.events(network, policy))

    @property
    def measured(self) -> int:
        """Measurements so far, on all boards."""
        return sum(meter.measured for meter in self.meters)

    def close(self) -> None:
        """Forget what waits, and wait for what runs."""
        self._crew.close()
