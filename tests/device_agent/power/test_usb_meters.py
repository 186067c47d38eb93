"""Meters on USB over fakes of their packages: readings, and one sentence without the package."""

from __future__ import annotations

import struct
import sys
import types
from typing import Any

import numpy as np
import pytest

from device_agent.errors import Unsupported
from device_agent.power import fnirsi, joulescope, ppk2
from device_agent.power.meters import ASKED, meter


@pytest.mark.parametrize("name", ASKED)
def test_a_missing_package_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("joulescope", "ppk2_api", "ppk2_api.ppk2_api", "usb", "usb.core"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Unsupported, match=rf"pip install 'hil-lab\[{name}\]'"):
        meter(name)


def test_a_joulescope_bin_is_the_mean_of_current_times_voltage() -> None:
    class Device:
        def read(self, contiguous_duration: float) -> np.ndarray:
            return np.array([[0.5, 5.0], [1.0, 5.0]], np.float32)

    ((at_s, watts),) = joulescope.Bins(Device(), clock_s=lambda: 3.0).read()
    assert (at_s, watts) == (pytest.approx(2.995), pytest.approx(3.75))


def test_what_a_joulescope_lost_is_lost() -> None:
    class Device:
        def read(self, contiguous_duration: float) -> np.ndarray:
            return np.array([[np.nan, np.nan], [1.0, 5.0]])

    assert joulescope.Bins(Device()).read() == []


@pytest.mark.parametrize("samples", [[400_000.0, 600_000.0], ([400_000.0, 600_000.0], [0, 0])])
def test_a_ppk2_gives_microamperes_at_the_supplys_voltage(samples: Any) -> None:
    class Device:
        def get_data(self) -> bytes:
            return b"x"

        def get_samples(self, data: bytes) -> Any:
            return samples

    source = ppk2.Currents(Device(), 5.0, clock_s=lambda: 1.0, sleep=lambda _: None)
    ((_, watts),) = source.read()
    assert watts == pytest.approx(2.5)


def test_a_ppk2_is_found_in_both_forms_of_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for listed in (["/dev/ttyACM0"], [("/dev/ttyACM0", "SERIAL")]):
        api = types.SimpleNamespace(list_devices=lambda listed=listed: listed)
        module = types.SimpleNamespace(PPK2_API=api)
        monkeypatch.setitem(sys.modules, "ppk2_api", types.SimpleNamespace(ppk2_api=module))
        monkeypatch.setitem(sys.modules, "ppk2_api.ppk2_api", module)
        assert ppk2.find() == ppk2.Port("/dev/ttyACM0", 5.0)


def packet(volts: float, amperes: float, kind: int = 0x04) -> bytes:
    sample = struct.pack("<II", round(volts * 1e5), round(amperes * 1e5)) + bytes(7)
    return bytes((0xAA, kind)) + 4 * sample + bytes(2)


def test_a_packet_of_an_fnb58_holds_four_samples() -> None:
    assert fnirsi.watts(packet(5.1, 1.0)) == pytest.approx([5.1] * 4)
    assert fnirsi.watts(packet(5.1, 1.0, kind=0x03)) == []
    assert fnirsi.watts(b"\xaa\x04short") == []


def test_an_fnb58_is_asked_and_its_samples_are_10_ms_apart() -> None:
    class Pipe:
        def __init__(self) -> None:
            self.written: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.written.append(data)

        def read(self, size: int, timeout: int) -> bytes:
            return packet(5.0, 0.5)

    pipe, now = Pipe(), [0.0]
    source = fnirsi.Packets(pipe, pipe, clock_s=lambda: now[0])
    assert [len(request) for request in pipe.written] == [64, 64, 64]
    now[0] = 2.0
    readings = source.read()
    assert pipe.written[-1] == fnirsi.KEEP_ALIVE
    assert [t for t, _ in readings] == pytest.approx([1.97, 1.98, 1.99, 2.0])
    assert [w for _, w in readings] == pytest.approx([2.5] * 4)


def test_a_ppk2_tells_when_its_input_changed() -> None:
    polls = [([1.0] * 4, [0, 0, 0, 0]), ([1.0] * 4, [0, 3, 3, 2]), ([1.0] * 2, [0, 1])]

    class Device:
        def get_data(self) -> bytes:
            return b"x"

        def get_samples(self, data: bytes) -> Any:
            return polls.pop(0)

    times = iter((1.0, 2.0, 3.0))
    source = ppk2.Currents(Device(), 5.0, clock_s=lambda: next(times), sleep=lambda _: None)
    for _ in range(3):
        source.read()
    assert source.edges() == pytest.approx([2.0 - 2e-5, 2.0, 3.0])
    assert source.edges() == []


def test_a_line_goes_to_a_meter_that_sees_it() -> None:
    with pytest.raises(Unsupported, match="only ppk2 see a line of the board: leave line 17"):
        meter("joulescope", line="17")
    with pytest.raises(Unsupported, match="name a line by its number"):
        meter("ppk2", line="D0")
    with pytest.raises(Unsupported, match="line 17 of /dev/nochip cannot be driven"):
        meter("ppk2", line="/dev/nochip:17")
