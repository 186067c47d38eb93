"""Power by any two commands: a USB hub, a PDU, a script of the lab."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass

from host.errors import SupplyError

DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Command lines, run without a shell."""

    on: str
    off: str


def on(settings: Settings) -> None:
    """Run the command that switches on."""
    run(shlex.split(settings.on))


def off(settings: Settings) -> None:
    """Run the command that switches off."""
    run(shlex.split(settings.off))


def run(command: list[str]) -> None:
    """Run a command; raises SupplyError with what it said last."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    except (OSError, subprocess.TimeoutExpired) as e:
        why = f"took over {DEADLINE_S:g} s" if isinstance(e, subprocess.TimeoutExpired) else str(e)
        raise SupplyError(f"{shlex.join(command)}: {why}") from e
    if done.returncode:
        said = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise SupplyError(f"{shlex.join(command)}: exit status {done.returncode} {said}".rstrip())
