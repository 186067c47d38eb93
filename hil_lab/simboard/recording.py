"""A recording as a replay asks it: the answers to each question in turn; runs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_agent.errors import Rejected
from device_agent.power import Window
from host.boards.tape import RUNS, Line, identity_of, read_tape
from host.canonical import canonical_json
from protos.convert import from_json
from protos.values import Block, Conditions, Energy, TimingPlan


@dataclass
class Recording:
    """The answers of one board by what was asked, and how far they were given."""

    path: Path
    lines: list[Line]
    answered: int = 0
    identity: Line = field(init=False)
    _answers: dict[str, list[Line]] = field(default_factory=dict, init=False)
    _given: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.identity = identity_of(self.path, self.lines)
        for line in self.lines:
            if line["what"] in RUNS or line["what"] == "telemetry":
                self._answers.setdefault(_key(line), []).append(line)

    def next(self, what: str, **asked: Any) -> Line:
        """Return the next answer to what is asked; raises Rejected where there is none."""
        key = _key({"what": what, **asked})
        answers = self._answers.get(key)
        if answers is None:
            of = str(asked.get("structure") or asked.get("artifact"))[:12]
            raise Rejected(
                f"the recording {self.path} has no {what} of program {of} as it is asked for: "
                "record it on the board, or ask another board"
            )
        given = self._given.get(key, 0)
        self._given[key] = given + 1
        self.answered += what in RUNS
        return answers[given % len(answers)]

    def telemetry(self) -> Conditions | None:
        """Return the next recorded conditions, None where there are none."""
        if _key({"what": "telemetry"}) not in self._answers:
            return None
        return from_json(Conditions, self.next("telemetry")["conditions"])

    @property
    def archs(self) -> frozenset[str]:
        """The machines that the board ran programs of."""
        return frozenset(str(x["arch"]) for x in self.lines if x["what"] == "program")

    @property
    def meters(self) -> list[str]:
        """The power meters that were recorded."""
        return sorted({x["energy"]["meter"] for x in self.lines if x.get("energy")})


def _key(line: Line) -> str:
    """Return what two questions must share to have the same answers."""
    names = ("structure", "anchor", "artifact", "plan", "repeats", "inputs")
    return canonical_json([line["what"], *(line.get(name) for name in names)])


def replay_of(name: str) -> Recording:
    """Read a recording, `FILE[#BOARD]`; raises CallerError for one that is none."""
    file, _, board = name.partition("#")
    return Recording(Path(file), read_tape(Path(file), board))


def windows_of(energy: Energy | None, plan: TimingPlan) -> Iterator[Window]:
    """Yield idle, active and idle windows; only the sum of the active ones was recorded."""
    if energy is None:
        return
    if plan.idle_s > 0:
        yield _idle(energy.idle_w)
    yield Window(energy.active_j, energy.active_s, energy.readings, energy.lost)
    yield from [Window(0.0, 0.0)] * (energy.windows - 1)
    if plan.idle_s > 0:
        yield _idle(energy.idle_after_w)


def _idle(watts: float | None) -> Window:
    return Window(0.0, 0.0) if watts is None else Window(watts, 1.0)


def in_order(line: Line, *, anchored: bool) -> Iterator[Block]:
    """Yield the blocks as they are asked for: an anchor before every block and after the last."""
    blocks = [from_json(Block, raw) for raw in line["blocks"]]
    anchors = [from_json(Block, raw) for raw in line["anchors"]]
    if not anchored:
        yield from blocks
        return
    for number, anchor in enumerate(anchors):
        yield anchor
        yield from blocks[number : number + 1]
