"""Nordic PPK2 as an ampere meter (`pip install 'hil-lab[ppk2]'`); only `--meter ppk2` asks.

It measures up to 1 A, which is below a Raspberry Pi 4 with four busy cores. `option` is the supply
in millivolts, 5000 unless it says otherwise: the meter sees current alone. Not seen on hardware:
written against the package's examples and tested over a fake of it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agent.power import Meter
from device_agent.power.extras import imported
from device_agent.power.gpio import Line, Output
from device_agent.power.signals import Edges
from device_agent.power.stream import Pump, Reading, StreamMeter

DEFAULT_MV = 5000
POLL_S = 0.01
RESOLUTION_A = 1e-5
SAMPLE_S = 1e-5
D0, MOST_EDGES = 1, 1000


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


def attach(port: Port, line: Line | None = None) -> Meter:
    """Return the meter of a port, measuring; a line of the board that is wired to D0 aligns it."""
    api = imported("ppk2_api.ppk2_api", "ppk2")
    device = api.PPK2_API(port.name)
    device.get_modifiers()
    device.use_ampere_meter()
    device.start_measuring()
    currents = Currents(device, port.volts)
    pump = Pump(currents)
    signal = Edges(lambda: Output(line), currents.edges, SAMPLE_S) if line else None
    resolution_w = RESOLUTION_A * port.volts
    return StreamMeter("ppk2", pump.drain, resolution_w=resolution_w, signal=signal)


class Currents:
    """A Source of mean watts a poll, and of when its logic input D0 changed."""

    def __init__(
        self, device: Any, volts: float, clock_s: Any = time.monotonic, sleep: Any = time.sleep
    ) -> None:
        self._device = device
        self._volts = volts
        self._clock_s = clock_s
        self._sleep = sleep
        self._level: int | None = None
        self._edges: deque[float] = deque(maxlen=MOST_EDGES)

    def edges(self) -> list[float]:
        """Return when D0 changed since the last call, in seconds of the readings' clock."""
        return [self._edges.popleft() for _ in range(len(self._edges))]

    def read(self) -> list[Reading]:
        """Return the mean of what came in a poll; nothing where nothing came."""
        self._sleep(POLL_S)
        data = self._device.get_data()
        found = self._device.get_samples(data) if data else ()
        # Newer versions return (microamperes, digital inputs).
        samples, inputs = found if isinstance(found, tuple) and found else (found, ())
        if not len(samples):
            return []
        now_s = self._clock_s()
        self._look(inputs, now_s)
        watts = sum(samples) / len(samples) * 1e-6 * self._volts
        return [(now_s - POLL_S / 2, watts)]

    def _look(self, inputs: Sequence[int], now_s: float) -> None:
        """Note where the level of D0 changed among samples of which the last is of now."""
        for at, bits in enumerate(inputs, 1 - len(inputs)):
            level = int(bits) & D0
            if self._level is not None and level != self._level:
                self._edges.append(now_s + at * SAMPLE_S)
            self._level = level
