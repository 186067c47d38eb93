"""Power by a line of this machine, through a relay or a MOSFET; needs gpiod (Linux)."""

from __future__ import annotations

from dataclasses import dataclass

from host.errors import SupplyError
from host.supply import extra


@dataclass(frozen=True, slots=True)
class Settings:
    """A line of a chip; `active_low` where a low level switches on."""

    line: int
    chip: str = "/dev/gpiochip0"
    active_low: bool = False


def on(settings: Settings) -> None:
    """Drive the line to on."""
    _drive(settings, True)


def off(settings: Settings) -> None:
    """Drive the line to off."""
    _drive(settings, False)


def _drive(settings: Settings, switched_on: bool) -> None:
    gpiod = extra("gpiod", "gpiod")
    values = gpiod.line.Value
    line = gpiod.LineSettings(
        direction=gpiod.line.Direction.OUTPUT,
        output_value=values.ACTIVE if switched_on else values.INACTIVE,
        active_low=settings.active_low,
    )
    try:
        # The level stays when the request is released: drivers of the Pi keep outputs.
        request = gpiod.request_lines(
            settings.chip, consumer="hil-lab", config={settings.line: line}
        )
        request.release()
    except OSError as e:
        raise SupplyError(f"{settings.chip}, line {settings.line}: {e.strerror or e}") from e
