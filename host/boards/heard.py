"""What was heard of a measurement while it went on, and the measurement made of it; no wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from host.artifact import Artifact
from host.boards.protocol import MeasureProtocol, flags, judge
from host.boards.receipts import statement
from host.boards.types import Block, BoardInfo, Energy, Measurement, Progress, Receipt
from host.errors import MeasurementFailed
from protos.convert import from_message


class Heard:
    """Collects the events of one measurement."""

    def __init__(self, on_progress: Callable[[Progress], None] | None = None) -> None:
        self._on_progress = on_progress
        self._blocks: list[Block] = []
        self._anchors: list[Block] = []
        self._energy: Energy | None = None
        self._receipt: Receipt | None = None

    def event(self, message: Any) -> None:
        """Take one event."""
        kind = message.WhichOneof("event")
        if kind == "block":
            self._blocks.append(from_message(Block, message.block))
        elif kind == "anchor":
            self._anchors.append(from_message(Block, message.anchor))
        elif kind == "energy":
            self._energy = from_message(Energy, message.energy)
        elif kind == "receipt":
            self._receipt = from_message(Receipt, message.receipt)
        elif self._on_progress:
            self._on_progress(Progress(message.progress.phase, message.progress.block))

    def measurement(
        self,
        board: BoardInfo,
        artifact: Artifact,
        protocol: MeasureProtocol,
        anchor: Artifact | None,
    ) -> Measurement:
        """Judge what was heard; raises MeasurementFailed where that is nothing."""
        if not self._blocks:
            raise MeasurementFailed(f"{board.name}: no samples came back", "crash")
        blocks, anchors = tuple(self._blocks), tuple(self._anchors)
        verdict, reasons = judge(protocol, blocks, anchors)
        made = Measurement(
            artifact=artifact.digest,
            structure=artifact.manifest["structure"],
            board=board.name,
            fingerprint=board.fingerprint,
            protocol=protocol,
            blocks=blocks,
            verdict=verdict,
            reasons=reasons,
            flags=flags(blocks),
            energy=self._energy,
            anchor=anchor.digest if anchor else "",
            anchors=anchors,
            receipt=self._receipt,
        )
        stated = self._receipt.statement if self._receipt else ""
        if statement(made, stated) == stated:
            return made
        return replace(made, flags=(*made.flags, "the receipt states other numbers"))
