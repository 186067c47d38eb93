"""Nordic PPK2 as an ampere meter (`pip install 'hil-lab[ppk2]'`); only `--meter ppk2` asks.

It measures up to 1 A, which is below a Raspberry Pi 4 with four busy cores. `option` is the supply
in millivolts, 5000 unless it says otherwise: the meter sees current alone. Not seen on hardware:
written against the package's examples and tested over a fake of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agent.power import Meter
from device_agent.power.extras import imported
from device_agent.power.stream import Pump, Reading, StreamMeter

DEFAULT_MV = 5000
POLL_S = 0.01
RESOLUTION_A = 1e-5


@dataclass(frozen=True, slots=True)
class Port:
    """A serial port and the supply's voltage."""

    name: str
    volts: float


def find(root: Path = Path("/"), option: str = "") -> Port | None:
    """Return the port of the first PPK2, None where there is none."""
    api = imported("ppk2_api.ppk2_api", "ppk2")
    found = api.PPK2_API.list_devices()
    if not found:
        return None
    # Newer versions list (port, serial number).
    name = found[0] if isinstance(found[0], str) else found[0][0]
    return Port(name, float(option or DEFAULT_MV) / 1e3)


def attach(port: Port) -> Meter:
    """Return the meter of a port, measuring."""
    api = imported("ppk2_api.ppk2_api", "ppk2")
    device = api.PPK2_API(port.name)
    device.get_modifiers()
    device.use_ampere_meter()
    device.start_measuring()
    pump = Pump(Currents(device, port.volts))
    return StreamMeter("ppk2", pump.drain, resolution_w=RESOLUTION_A * port.volts)


class Currents:
    """A Source of mean watts a poll."""

    def __init__(
        self, device: Any, volts: float, clock_s: Any = time.monotonic, sleep: Any = time.sleep
    ) -> None:
        self._device = device
        self._volts = volts
        self._clock_s = clock_s
        self._sleep = sleep

    def read(self) -> list[Reading]:
        """Return the mean of what came in a poll; nothing where nothing came."""
        self._sleep(POLL_S)
        data = self._device.get_data()
        found = self._device.get_samples(data) if data else ()
        # Newer versions return (microamperes, digital inputs).
        samples = found[0] if isinstance(found, tuple) and found else found
        if not len(samples):
            return []
        watts = sum(samples) / len(samples) * 1e-6 * self._volts
        return [(self._clock_s() - POLL_S / 2, watts)]
