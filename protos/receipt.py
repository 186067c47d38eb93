"""What a receipt states, built from the values themselves: board and host get the same text.

The board signs the text; the host builds it again from what it received or kept, so that a number,
a condition or a verdict that was changed afterwards no longer fits. No keys here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from protos.values import Block, Energy, TimingPlan
from protos.verdict import judge, judge_energy

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement as a receipt sees it; artifacts are digests, `agent` is a version."""

    artifact: str
    anchor: str
    board: str
    fingerprint: Mapping[str, str]
    agent: str
    plan: TimingPlan
    blocks: tuple[Block, ...]
    anchors: tuple[Block, ...] = ()
    energy: Energy | None = None

    def statement(self) -> str:
        """Return the canonical JSON of what was measured, how, and what it is worth."""
        verdict, reasons = judge(self.plan, self.blocks, self.anchors)
        return _canonical(
            {
                "format": FORMAT,
                "agent": self.agent,
                "board": self.board,
                "fingerprint": dict(self.fingerprint),
                "artifact": self.artifact,
                "anchor": self.anchor,
                "protocol": self.plan.number,
                "plan": asdict(self.plan),
                "samples_sha256": self._samples_sha256(),
                "conditions": [_conditions(block) for block in self.blocks],
                "verdict": verdict,
                "reasons": list(reasons),
                "energy": self._energy(),
            }
        )

    def _samples_sha256(self) -> str:
        raw = [[asdict(block) for block in blocks] for blocks in (self.blocks, self.anchors)]
        return hashlib.sha256(_canonical(raw).encode()).hexdigest()

    def _energy(self) -> dict[str, Any] | None:
        if self.energy is None:
            return None
        verdict, reasons = judge_energy(self.energy)
        return {**asdict(self.energy), "verdict": verdict, "reasons": list(reasons)}


def _conditions(block: Block) -> dict[str, Any]:
    ends = {"start": block.start, "end": block.end}
    return {name: None if c is None else asdict(c) for name, c in ends.items()}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
