"""One fault, one search: struck, mended, gone on with, and judged."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hil_lab.bench.faults.boards import POLL_S, Setting, wait_until
from hil_lab.bench.faults.kinds import Fault
from hil_lab.bench.faults.lab import Host, Lab, lab
from hil_lab.bench.faults.verdict import Judged, Kept, judged, kept
from protos.convert import from_json

MOST_STARTS = 5


@dataclass(frozen=True)
class Outcome:
    """What a fault led to; seconds are None where the search was not told of it or passed by.

    `struck` says whether the search was still at work when the fault came.
    """

    fault: str
    board: str
    seed: int
    struck: bool
    dead: bool
    noticed_s: float | None
    said: str
    starts: int
    seconds: float
    bug: str
    judged: Judged
    notes: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        """Whether it ended as if nothing had happened."""
        j = self.judged
        return j.same_policy and not (j.lost or j.twice or j.stale or self.bug)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "well": self.well}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Outcome:
        """Read the JSON form."""
        return from_json(cls, {key: data[key] for key in data if key != "well"})


def undisturbed(setting: Setting, kind: str, folder: Path) -> Kept:
    """Return what a search leaves that nothing happens to."""
    with lab(setting, kind, folder, 0) as made:
        made.host.start()
        _finish(made.host)
        found = kept(made.host)
    if found is None:
        raise RuntimeError(f"the undisturbed search failed: {made.host.told()}")
    return found


def trial(
    setting: Setting, kind: str, fault: Fault, seed: int, folder: Path, alone: Kept
) -> Outcome:
    """Let a fault strike a search, and see what becomes of it."""
    start_s = time.monotonic()
    with lab(setting, kind, folder, seed, fault.corrupt) as made:
        made.host.start()
        fault.when(made)
        struck = made.host.runs or fault.corrupt > 0
        at_s = time.monotonic()
        fault.inject(made)
        line = _noticed(made, fault, at_s)
        fault.mend(made)
        for host in made.hosts:
            _finish(host)
        line = line or made.host.noticed(at_s)
        each = [judged(kind, kept(host), alone) for host in made.hosts]
        bugs = [told["error"] for host in made.hosts for told in host.told() if _is_bug(told)]
    return Outcome(
        fault.name,
        kind,
        seed,
        struck,
        fault.dead,
        line["at_s"] - at_s if line else None,
        str(line.get("error") or line.get("text")) if line else "",
        made.host.starts,
        time.monotonic() - start_s,
        "\n".join(bugs),
        _together(each),
        tuple(made.notes),
    )


def _noticed(made: Lab, fault: Fault, since_s: float) -> dict[str, Any] | None:
    """Let the fault last, or until the host has noticed; return what it told."""
    while time.monotonic() - since_s < fault.hold_s and made.host.runs:
        if line := made.host.noticed(since_s):
            return line
        time.sleep(POLL_S)
    return made.host.noticed(since_s)


def _finish(host: Host) -> None:
    """Wait for a search, and go on with it where it ended without a result."""
    while host.starts <= MOST_STARTS:
        wait_until(lambda: not host.runs, "a search to end")
        if host.done() is not None or host.starts == MOST_STARTS:
            return
        host.start()


def _is_bug(line: dict[str, Any]) -> bool:
    return bool(line["what"] == "bug")


def _together(each: list[Judged]) -> Judged:
    return Judged(
        all(j.same_policy for j in each),
        sum(j.lost for j in each),
        sum(j.twice for j in each),
        sum(j.stale for j in each),
    )
