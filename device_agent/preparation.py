"""What is done to programs before they are measured, and what of the board was set at boot.

Both are part of the fingerprint: numbers that were prepared in another way never mix.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from device_agent.cores import Cores

_LEDS, _CONNECTORS = "sys/class/leds/*/trigger", "sys/class/drm/card*-HDMI*/enabled"
_IRQS = "proc/irq/default_smp_affinity"


@dataclass(frozen=True, slots=True)
class Preparation:
    """How programs are prepared; nothing is done unless asked.

    With `cores` programs are pinned to some, and the daemon to another. Without `aslr` a program's
    addresses are the same in every run: less noise between processes, and the luck of one layout.
    """

    cores: Cores | None = None
    aslr: bool = True

    def fingerprint(self, root: Path = Path("/")) -> dict[str, str]:
        """Return what numbers depend on of it, and what pinned boards were set to at boot."""
        found = {} if self.aslr else {"aslr": "off"}
        if self.cores is None:
            return found
        return {**found, "pinned": _text(self.cores.program(1)), **_boot(root)}

    def settle_daemon(self) -> None:
        """Leave the cores of programs; call it before there are threads, which inherit that."""
        if self.cores:
            os.sched_setaffinity(0, self.cores.daemon)


def _boot(root: Path) -> dict[str, str]:
    """Return which cores take interrupts, and whether lights and HDMI are on, where it shows."""
    leds = [_read(path) for path in sorted(root.glob(_LEDS))]
    screens = [_read(path) for path in sorted(root.glob(_CONNECTORS))]
    found = {
        "irq_mask": _read(root / _IRQS).lstrip("0,"),
        "leds": _on(any("[none]" not in led for led in leds)) if leds else "",
        "hdmi": _on("enabled" in screens) if screens else "",
    }
    return {key: value for key, value in found.items() if value}


def _on(on: bool) -> str:
    return "on" if on else "off"


def _text(cores: tuple[int, ...]) -> str:
    return ",".join(map(str, cores))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
