"""INA219/220/226/228/230/231/260 through the kernel's hwmon files; no library, never writes.

Where the chip counts energy itself (INA228: `energy1_input`, in uJ), that is what is read: no
reading can be lost. Else its power (`power1_input`, in uW) is sampled.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from device_agent.power import Meter
from device_agent.power.hwmon import folders, integer, text
from device_agent.power.sampled import CounterMeter, SampledMeter

# Steps of power (uW) of a shunt of 1 ohm, from the drivers' tables (ina2xx.c, ina238.c): the step
# of current is inverse to the shunt, the step of power a multiple of it. The INA260's is fixed.
STEP_UW_OHM = {
    "ina219": 200.0, "ina220": 200.0, "ina226": 62.5, "ina230": 62.5, "ina231": 62.5,
    "ina238": 1.0, "ina228": 1.0,
}  # fmt: skip
INA260_STEP_UW = 10_000.0
CHIPS = frozenset({*STEP_UW_OHM, "ina260"})
DEFAULT_SHUNT_UOHM = 10_000
DEFAULT_INTERVAL_MS = 5


def find(root: Path = Path("/"), option: str = "") -> Path | None:
    """Return the hwmon folder of the first such meter, or of the chip that `option` names."""
    found = folders(root, {option} & CHIPS if option else CHIPS)
    return found[0] if found else None


def attach(folder: Path) -> Meter:
    """Return the meter of a folder."""
    chip = text(folder / "name")
    if (folder / "energy1_input").exists():
        interval_s = _interval_ms(folder) / 1e3
        return CounterMeter(
            f"{chip}, energy counter", partial(_read_j, folder), delta_t_s=interval_s
        )
    return SampledMeter(chip, partial(read_w, folder), resolution_w=_step_w(folder, chip))


def read_w(folder: Path) -> float:
    """Return the power now, in watts."""
    return integer(folder / "power1_input") / 1e6


def _read_j(folder: Path) -> float:
    return integer(folder / "energy1_input") / 1e6


def _step_w(folder: Path, chip: str) -> float:
    if chip == "ina260":
        return INA260_STEP_UW / 1e6
    shunt = text(folder / "shunt_resistor")
    ohm = (int(shunt) if shunt.isdigit() and int(shunt) else DEFAULT_SHUNT_UOHM) / 1e6
    return STEP_UW_OHM[chip] / ohm / 1e6


def _interval_ms(folder: Path) -> float:
    shown = text(folder / "update_interval")
    return float(shown) if shown else DEFAULT_INTERVAL_MS
