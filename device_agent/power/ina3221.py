"""INA3221, three channels of voltage and current, through hwmon; no library, never writes.

It has no power register: watts are `inN_input` (mV) times `currN_input` (mA). `option` is the
channel of the board, 1 unless it says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from device_agent.power import Meter
from device_agent.power.hwmon import folders, integer, text
from device_agent.power.sampled import SampledMeter

CHIPS = frozenset({"ina3221"})
CHANNELS = ("1", "2", "3")
SHUNT_STEP_UV = 40.0  # data sheet, table 5
DEFAULT_SHUNT_UOHM = 10_000
SUPPLY_V = 5.0


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of one chip."""

    folder: Path
    number: str


def find(root: Path = Path("/"), option: str = "") -> Channel | None:
    """Return the channel of the first such meter; None where it is not there or switched off."""
    number = option or CHANNELS[0]
    for folder in folders(root, CHIPS) if number in CHANNELS else ():
        if text(folder / f"in{number}_enable") != "0":
            return Channel(folder, number)
    return None


def attach(channel: Channel) -> Meter:
    """Return the meter of a channel."""
    shunt = text(channel.folder / f"shunt{channel.number}_resistor")
    uohm = int(shunt) if shunt.isdigit() and int(shunt) else DEFAULT_SHUNT_UOHM
    step_w = SHUNT_STEP_UV / uohm * SUPPLY_V
    name = f"ina3221, channel {channel.number}"
    return SampledMeter(name, partial(read_w, channel), resolution_w=step_w)


def read_w(channel: Channel) -> float:
    """Return the power now, in watts."""
    folder, number = channel.folder, channel.number
    return integer(folder / f"in{number}_input") * integer(folder / f"curr{number}_input") / 1e6
