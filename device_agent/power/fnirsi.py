"""FNIRSI FNB48S and FNB58 on USB (`pip install 'hil-lab[fnirsi]'`); only `--meter fnirsi` asks.

The protocol is not published; this is what the community's loggers found: a request, then packets
of 64 bytes with four samples of 10 ms each. Not seen on hardware: tested over recorded bytes.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device_agent.power import Meter
from device_agent.power.extras import imported
from device_agent.power.stream import Pump, Reading, StreamMeter

DEVICES = ((0x2E3C, 0x5558), (0x2E3C, 0x0049))  # FNB58, FNB48S
SAMPLE_S = 0.01
SAMPLES, SAMPLE_BYTES, HEADER_BYTES = 4, 15, 2
DATA_PACKET = 0x04
RESOLUTION_W = 5e-5
REQUESTS = tuple(
    bytes((0xAA, command)) + bytes(61) + bytes((check,))
    for command, check in ((0x81, 0x8E), (0x82, 0x96), (0x82, 0x96))
)
KEEP_ALIVE = bytes((0xAA, 0x83)) + bytes(61) + bytes((0x9E,))
KEEP_ALIVE_S = 1.0
_TIMEOUT_MS = 1000


def find(root: Path = Path("/"), option: str = "") -> Any:
    """Return the USB device of the first such meter, None where there is none."""
    usb = imported("usb.core", "fnirsi")
    for vendor, product in DEVICES:
        if device := usb.find(idVendor=vendor, idProduct=product):
            return device
    return None


def attach(device: Any) -> Meter:
    """Return the meter of a device, measuring."""
    util = imported("usb.util", "fnirsi")
    ends = _endpoints(device, util)
    pump = Pump(Packets(*ends))
    return StreamMeter("fnirsi", pump.drain, resolution_w=RESOLUTION_W)


def watts(packet: bytes) -> list[float]:
    """Return the watts of a packet's samples; nothing of another kind of packet."""
    if len(packet) < HEADER_BYTES + SAMPLES * SAMPLE_BYTES or packet[1] != DATA_PACKET:
        return []
    found = []
    for i in range(SAMPLES):
        volts, amperes = struct.unpack_from("<II", packet, HEADER_BYTES + i * SAMPLE_BYTES)
        found.append(volts * 1e-5 * amperes * 1e-5)
    return found


class Packets:
    """A Source of the packets of an open device."""

    def __init__(self, out: Any, into: Any, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._into = into
        self._clock_s = clock_s
        self._asked_s = clock_s()
        for request in REQUESTS:
            out.write(request)

    def read(self) -> list[Reading]:
        """Return the samples of a packet; the last one is of now."""
        if self._clock_s() - self._asked_s >= KEEP_ALIVE_S:
            self._out.write(KEEP_ALIVE)
            self._asked_s = self._clock_s()
        found = watts(bytes(self._into.read(64, timeout=_TIMEOUT_MS)))
        now_s = self._clock_s()
        return [(now_s - (len(found) - 1 - i) * SAMPLE_S, w) for i, w in enumerate(found)]


def _endpoints(device: Any, util: Any) -> tuple[Any, Any]:
    """Return the ends of the interface for HID, taken from the kernel's driver."""
    interface = next(i for i in device[0] if i.bInterfaceClass == 0x03)
    if device.is_kernel_driver_active(interface.bInterfaceNumber):
        device.detach_kernel_driver(interface.bInterfaceNumber)

    def end(direction: int) -> Any:
        return util.find_descriptor(
            interface,
            custom_match=lambda e: util.endpoint_direction(e.bEndpointAddress) == direction,
        )

    return end(util.ENDPOINT_OUT), end(util.ENDPOINT_IN)
