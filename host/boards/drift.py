"""Watches a board drift: the anchor, measured now and then, against what it took at first.

The anchor is a program that never changes, so what changes is the board. A board that is off takes
the numbers since the last good look with it, since nobody knows when it began.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from host.artifact import Artifact
from host.boards.protocol import SEARCH, MeasureProtocol
from host.boards.session import BoardSession
from host.boards.types import Measurement
from host.errors import BoardDrifted, BoardError, MeasurementFailed
from host.store import Store

JOBS = 20
SECONDS = 600.0
DRIFT_RATIO = 0.02
# An invalid look is taken again; so is one that is off, since quarantine is a costly word.
ATTEMPTS = 3


@dataclass
class DriftWatch:
    """Looks at the anchor before a job, every 20 jobs or 10 minutes, and first under a lease."""

    session: BoardSession
    store: Store
    anchor: Artifact
    protocol: MeasureProtocol = SEARCH
    clock_s: Callable[[], float] = time.monotonic
    _jobs: int = field(default=0, init=False)
    _looked_s: float | None = field(default=None, init=False)
    _fence: int = field(default=0, init=False)

    def before_job(self) -> None:
        """Count a job, after a look where one is due.

        Raises BoardDrifted: the board is in quarantine, what it measured since is invalid.
        """
        if self.due:
            self.look()
        self._jobs += 1

    @property
    def jobs(self) -> int:
        """How many jobs there were since the last good look."""
        return self._jobs

    @property
    def due(self) -> bool:
        """Whether it is time to look."""
        if self._looked_s is None or self._jobs >= JOBS:
            return True
        if self.session.fence != self._fence:
            return True  # a board that restarted may not be as it was
        return self.clock_s() - self._looked_s >= SECONDS

    def look(self) -> float:
        """Measure the anchor and return its latency over its baseline's.

        The first trusted look ever is the baseline; a good one ends a quarantine.
        """
        info = self.session.info
        ratio = 0.0
        for _ in range(ATTEMPTS):
            measured = self._measured()
            ratio = self._ratio(measured)
            if abs(ratio - 1) <= DRIFT_RATIO:
                self.store.anchored(info.name, info.fingerprint_digest)
                self._jobs, self._looked_s = 0, self.clock_s()
                self._fence = self.session.fence
                return ratio
        reason = f"the anchor is {ratio - 1:+.1%} off its baseline"
        count = self.store.quarantine(info.name, info.fingerprint_digest, reason)
        with suppress(BoardError):  # a board that cannot be told is out for us all the same
            self.session.quarantine(reason)
        raise BoardDrifted(
            f"{info.name} is quarantined: {reason}; {count} measurements since the last good look "
            f"are invalid and will be taken again: mend the board, then hil-lab boards reset "
            f"{info.name} and go on (hil-lab resume, or collect again)",
            count,
        )

    def _measured(self) -> Measurement:
        for _ in range(ATTEMPTS):
            measured = self._measure()
            self.store.add_measurement(measured)
            if measured.verdict != "invalid":
                return measured
        raise BoardError(
            f"{self.session.info.name}: the anchor cannot be measured "
            f"({'; '.join(measured.reasons)}); mend the board, then resume the run"
        )

    def _measure(self) -> Measurement:
        try:
            return self.session.measure(self.anchor, self.protocol, synthetic_weights=True)
        except MeasurementFailed as e:
            # It ran here before, or on its kind: that is the board's failure, and no program's.
            raise BoardError(f"{e}; that is the anchor: mend the board, then go on") from e

    def _ratio(self, measured: Measurement) -> float:
        info, structure = self.session.info, self.anchor.manifest["structure"]
        key = (structure, info.fingerprint_digest, asdict(self.protocol), info.name)
        baseline = self.store.baseline(*key)
        if baseline is None:
            if measured.verdict == "trusted":
                self.store.add_baseline(measured)
            return 1.0
        return measured.latency_ms.median / baseline.latency_ms.median
