"""Tells a caller of a measurement as it goes on, and remembers what it told; decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from device_agent.measure import Listener
from device_agent.values import Identity
from protos import board_pb2 as pb
from protos.convert import to_message
from protos.receipt import Measured
from protos.values import Block, Energy, Receipt, TimingPlan


class Teller:
    """Turns what a measurement says into messages; `held` says whether the lease still lives."""

    def __init__(self, emit: Callable[[Any], None], held: Callable[[], bool]) -> None:
        self._emit = emit
        self.blocks: list[Block] = []
        self.anchors: list[Block] = []
        self.spent: Energy | None = None
        self.listener = Listener(self._phase, self._block, self._anchor, held)

    def energy(self, spent: Energy | None) -> None:
        """Tell the joules, where there is a meter."""
        self.spent = spent
        if spent:
            self._emit(pb.MeasureEvent(energy=to_message(pb.Energy, spent)))

    def measured(self, board: Identity, agent: str, request: Any, plan: TimingPlan) -> Measured:
        """Return all that was told, as a receipt sees it; `agent` is the agent's version."""
        return Measured(
            artifact=request.artifact,
            anchor=request.anchor,
            board=board.name,
            fingerprint=board.fingerprint,
            agent=agent,
            plan=plan,
            blocks=tuple(self.blocks),
            anchors=tuple(self.anchors),
            energy=self.spent,
        )

    def receipt(self, receipt: Receipt) -> None:
        """Tell the receipt."""
        self._emit(pb.MeasureEvent(receipt=to_message(pb.Receipt, receipt)))

    def _phase(self, phase: str, number: int) -> None:
        self._emit(pb.MeasureEvent(progress=pb.Progress(phase=phase, block=number)))

    def _block(self, block: Block) -> None:
        self.blocks.append(block)
        self._emit(pb.MeasureEvent(block=to_message(pb.Block, block)))

    def _anchor(self, block: Block) -> None:
        self.anchors.append(block)
        self._emit(pb.MeasureEvent(anchor=to_message(pb.Block, block)))
