"""Joulescope JS110 and JS220 (`pip install 'hil-lab[joulescope]'`); only `--meter joulescope` asks.

Not seen on hardware: written against the driver's documentation and tested over a fake of it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.power import Meter
from device_agent.power.extras import imported
from device_agent.power.stream import Pump, Reading, StreamMeter

BIN_S = 0.01  # a megasample a second is averaged over this
RESOLUTION_W = 1e-6


def find(root: Path = Path("/"), option: str = "") -> Any:
    """Return the only Joulescope, opened by its driver; None where there is none."""
    driver = imported("joulescope", "joulescope")
    devices = driver.scan(config="auto")
    return devices[0] if devices else None


def attach(device: Any) -> Meter:
    """Return the meter of a device."""
    device.open()
    pump = Pump(Bins(device))
    return StreamMeter("joulescope", pump.drain, resolution_w=RESOLUTION_W)


class Bins:
    """A Source of mean watts a bin; samples that the driver lost (NaN) make a bin lost."""

    def __init__(self, device: Any, clock_s: Any = time.monotonic) -> None:
        self._device = device
        self._clock_s = clock_s

    def read(self) -> list[Reading]:
        """Return one bin; its instant is its middle."""
        data = np.asarray(self._device.read(contiguous_duration=BIN_S), dtype=np.float64)
        now_s = self._clock_s() - BIN_S / 2
        watts = float((data[:, 0] * data[:, 1]).mean())
        return [(now_s, watts)] if np.isfinite(watts) else []
