"""Why a board is out of use: what somebody said, kept over restarts, and what can be seen now."""

from __future__ import annotations

from pathlib import Path

from device_agent.durable import write_durably
from device_agent.errors import Quarantined, Rejected
from protos.values import THROTTLED, UNDER_VOLTAGE, Conditions

MOST = 500
UNDER_VOLTAGE_TEXT = "under-voltage: use a 3 A supply and a short cable"
HOT_TEXT = "throttled by its heat: cool it first"


class Quarantine:
    """A reason in a file; there is none while the board is fit."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def said(self) -> str:
        """What somebody said, "" while nobody did."""
        try:
            return self._path.read_text().strip()
        except FileNotFoundError:
            return ""

    def reason(self, now: Conditions) -> str:
        """Return why the board must not be used, "" for no reason."""
        return self.said or (UNDER_VOLTAGE_TEXT if now.under_voltage else "")

    def put(self, reason: str) -> None:
        """Put the board out of use; the first reason stays, later ones often follow from it."""
        if not reason or len(reason) > MOST or not reason.isprintable():
            raise Rejected(f"give a reason of at most {MOST} characters that can be shown")
        if not self.said:
            write_durably(self._path, f"{reason}\n".encode())

    def clear(self, now: Conditions) -> str:
        """End the quarantine and return its reason; raises Quarantined where the board is unfit."""
        bits = now.throttle_bits or 0
        for bit, why in ((UNDER_VOLTAGE, UNDER_VOLTAGE_TEXT), (THROTTLED, HOT_TEXT)):
            if bits & bit:
                raise Quarantined(f"still unfit: {why}")
        was = self.said
        self._path.unlink(missing_ok=True)
        return was
