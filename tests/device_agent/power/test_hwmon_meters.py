"""Meters of the kernel on faked sysfs trees: which is taken, what it reads and resolves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from device_agent.errors import Unsupported
from device_agent.power import ina2xx, ina3221
from device_agent.power.meters import meter
from device_agent.power.sampled import CounterMeter, SampledMeter
from tests.device_agent.power.trees import hwmon

POWER = {"power1_input": 2_345_000, "shunt_resistor": 10_000}


@pytest.mark.parametrize(
    ("chip", "step_w"),
    [("ina219", 0.02), ("ina226", 0.00625), ("ina231", 0.00625), ("ina260", 0.01)],
)
def test_a_chip_is_sampled_in_its_own_steps(tmp_path: Path, chip: str, step_w: float) -> None:
    hwmon(tmp_path, 0, "cpu_thermal")
    folder = hwmon(tmp_path, 1, chip, POWER)
    found = meter(root=tmp_path)
    assert isinstance(found, SampledMeter)
    assert (found.name, found.resolution_w) == (chip, pytest.approx(step_w))
    assert ina2xx.read_w(folder) == 2.345


def test_a_smaller_shunt_has_larger_steps(tmp_path: Path) -> None:
    hwmon(tmp_path, 0, "ina226", {**POWER, "shunt_resistor": 2_000})
    found = meter(root=tmp_path)
    assert found and found.resolution_w == pytest.approx(0.03125)


def test_an_energy_counter_wins_and_loses_nothing(tmp_path: Path) -> None:
    folder = hwmon(
        tmp_path, 0, "ina228", {**POWER, "energy1_input": 5_000_000, "update_interval": 4}
    )
    found = meter(root=tmp_path)
    assert isinstance(found, CounterMeter)
    assert (found.name, found.delta_t_s) == ("ina228, energy counter", 0.004)
    found.start()
    (folder / "energy1_input").write_text("65000000\n")
    window = found.stop()
    assert (window.joules, window.readings, window.lost) == (60.0, 0, 0)


def test_a_counter_that_ran_over_gives_no_joules(tmp_path: Path) -> None:
    folder = hwmon(tmp_path, 0, "ina228", {**POWER, "energy1_input": 9_000_000})
    found = meter(root=tmp_path)
    assert found
    found.start()
    (folder / "energy1_input").write_text("1000000\n")
    assert found.stop().joules == 0.0


def test_a_counter_that_is_gone_gives_no_joules(tmp_path: Path) -> None:
    folder = hwmon(tmp_path, 0, "ina228", {**POWER, "energy1_input": 9_000_000})
    found = meter(root=tmp_path)
    assert found
    found.start()
    (folder / "energy1_input").unlink()
    assert found.stop().joules == 0.0


def test_an_ina228_without_the_counter_is_sampled(tmp_path: Path) -> None:
    hwmon(tmp_path, 0, "ina228", POWER)
    assert isinstance(meter(root=tmp_path), SampledMeter)


def test_an_ina3221_multiplies_volts_and_amperes_of_its_channel(tmp_path: Path) -> None:
    channels = {f"in{n}_input": 5_000 + n for n in (1, 2)}
    channels |= {f"curr{n}_input": 100 * n for n in (1, 2)}
    folder = hwmon(tmp_path, 3, "ina3221", {**channels, "shunt2_resistor": 100_000})
    found = meter("ina3221:2", tmp_path)
    assert found and found.name == "ina3221, channel 2"
    assert found.resolution_w == pytest.approx(0.002)
    assert ina3221.read_w(ina3221.Channel(folder, "2")) == pytest.approx(5.002 * 0.2)


def test_a_channel_that_is_off_is_not_there(tmp_path: Path) -> None:
    hwmon(tmp_path, 0, "ina3221", {"in1_enable": 0})
    assert meter(root=tmp_path) is None
    with pytest.raises(Unsupported, match="no ina3221:1 is attached"):
        meter("ina3221:1", tmp_path)


def test_a_reading_that_fails_is_lost_not_zero(tmp_path: Path) -> None:
    folder = hwmon(tmp_path, 0, "ina226", POWER)
    found = meter(root=tmp_path)
    assert found
    found.start()
    time.sleep(0.1)
    (folder / "power1_input").unlink()
    time.sleep(0.1)
    (folder / "power1_input").write_text("2345000")
    time.sleep(0.05)
    window = found.stop()
    assert window.joules / window.seconds == pytest.approx(2.345)
    assert window.lost >= 3


def test_chips_are_taken_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    hwmon(tmp_path, 10, "ina226", POWER)
    first = hwmon(tmp_path, 9, "ina219", POWER)
    assert ina2xx.find(tmp_path) == first
    assert ina2xx.find(tmp_path, "ina226") == tmp_path / "sys/class/hwmon/hwmon10"


def test_no_meter_is_no_error_unless_one_was_asked_for(tmp_path: Path) -> None:
    assert meter(root=tmp_path) is None
    assert meter("none", tmp_path) is None
    with pytest.raises(Unsupported, match="no ina2xx is attached"):
        meter("ina2xx", tmp_path)
    with pytest.raises(Unsupported, match='unknown meter "ina999"; known: ina2xx'):
        meter("ina999", tmp_path)
