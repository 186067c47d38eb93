"""Probes, tuning, meters and the measurement around them, on a temporary file system."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from device_agent.errors import NotYourLease
from device_agent.gate import Gate
from device_agent.measure import Listener, Machine, Task, measure
from device_agent.power import Window, ina2xx
from device_agent.power.readings import energy
from device_agent.probes import LinuxProbes, local_identity, nominal_mhz
from device_agent.tuning import tuned
from device_agent.values import Job
from device_agent.watch import Watcher
from host.boards.protocol import QUICK, SEARCH
from protos.values import Block, Conditions, TimingPlan
from tests.contracts.support import FakeProbes, fake_machine

CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_probes_read_a_raspberry_pi(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/temp": "48312\n",
            f"{CPUFREQ}/scaling_cur_freq": "600000\n",
            f"{CPUFREQ}/cpuinfo_cur_freq": "1500000\n",
            f"{CPUFREQ}/scaling_governor": "performance\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
            "proc/loadavg": "0.00 0.1 0.2 1/100 42\n",
            "proc/meminfo": "MemTotal: 4000 kB\nMemAvailable:    2048 kB\n",
        },
    )
    conditions = LinuxProbes(root, clock_ns=lambda: 7).read()
    assert conditions == Conditions(7, 48.312, 1500.0, 0x50005, 0.0, 2 << 20, "performance")
    assert conditions.under_voltage


def test_what_is_absent_is_none(tmp_path: Path) -> None:
    assert LinuxProbes(tmp_path, clock_ns=lambda: 7).read() == Conditions(7)


def test_the_fingerprint_names_the_board(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"})
    assert local_identity("x", "rpi4", root).fingerprint["model"].endswith("Rev 1.4")


def test_the_governor_is_set_and_put_back(tmp_path: Path) -> None:
    file = write(tmp_path, {f"{CPUFREQ}/scaling_governor": "ondemand"})
    with pytest.raises(RuntimeError), tuned(file) as notes:
        assert notes == ()
        assert (file / CPUFREQ / "scaling_governor").read_text() == "performance"
        raise RuntimeError
    assert (file / CPUFREQ / "scaling_governor").read_text() == "ondemand"


def test_the_lowest_clock_is_the_highest_while_it_measures(tmp_path: Path) -> None:
    files = {f"{CPUFREQ}/scaling_min_freq": "600000", f"{CPUFREQ}/scaling_max_freq": "1800000"}
    file = write(tmp_path, files) / CPUFREQ / "scaling_min_freq"
    with tuned(tmp_path) as notes:
        assert (notes, file.read_text()) == ((), "1800000")
    assert file.read_text() == "600000"


def test_a_governor_that_cannot_be_read_is_a_note(tmp_path: Path) -> None:
    (tmp_path / CPUFREQ / "scaling_governor").mkdir(parents=True)
    with tuned(tmp_path) as notes:
        assert notes == ("governor of cpu0 not set: Is a directory",)


def test_an_ina_meter_is_found_and_read(tmp_path: Path) -> None:
    write(tmp_path, {"sys/class/hwmon/hwmon0/name": "cpu_thermal\n"})
    assert ina2xx.find(tmp_path) is None
    folder = "sys/class/hwmon/hwmon1"
    write(tmp_path, {f"{folder}/name": "ina226\n", f"{folder}/power1_input": "2345000\n"})
    found = ina2xx.find(tmp_path)
    assert found and ina2xx.read_w(found) == 2.345


def test_energy_integrates_power() -> None:
    assert energy([(0.0, 2.0), (1.0, 4.0), (3.0, 4.0)]) == 11.0


class FakeMeter:
    name = "fake"
    delta_t_s = 0.01
    resolution_w = 0.0

    def prepare(self) -> tuple[str, ...]:
        return ()

    def __init__(self) -> None:
        self.open = False

    def start(self) -> None:
        assert not self.open
        self.open = True

    def stop(self) -> Window:
        assert self.open
        self.open = False
        return Window(6.0, 2.0, 20, 1)


def test_energy_counts_the_sampling_windows_alone(tmp_path: Path) -> None:
    machine = replace(fake_machine(), meter=FakeMeter(), sleep=lambda _: None)
    blocks: list[Block] = []
    plan = replace(SEARCH, blocks=2, idle_s=1.0)
    task, listener = Task(Job({}, tmp_path), plan), Listener(lambda *_: None, blocks.append)
    spent = measure(machine, task, listener)
    assert spent and (spent.active_j, spent.active_s, spent.idle_w) == (12.0, 4.0, 3.0)
    assert (spent.idle_after_w, spent.windows, spent.lost) == (3.0, 2, 2)
    assert spent.inferences == sum(len(b.samples_ns) for b in blocks) == 60


def gate_of(machine: Machine, plan: TimingPlan, **more: Any) -> Gate:
    held = {"held": lambda: True, **more}
    return Gate(machine.conditions, plan, machine.sleep, machine.clock_s, **held)


def test_the_gate_waits_and_then_says_what_is_wrong() -> None:
    probes = FakeProbes(Conditions(1, temperature_c=80.0))
    waited: list[float] = []
    machine = replace(
        fake_machine(probes=probes), sleep=waited.append, clock_s=lambda: float(len(waited))
    )
    assert gate_of(machine, SEARCH).wait() == ("gate: 80.0 C, the plan starts below 65",)
    assert sum(waited) == SEARCH.gate_wait_s


def test_the_gate_opens_when_the_board_has_cooled() -> None:
    probes = FakeProbes(Conditions(1, temperature_c=80.0))

    def cool(_: float) -> None:
        probes.conditions = Conditions(2, temperature_c=50.0)

    assert gate_of(replace(fake_machine(probes=probes), sleep=cool), QUICK).wait() == ()


def test_later_windows_begin_near_where_the_first_one_did() -> None:
    probes = FakeProbes(Conditions(1, temperature_c=48.0))
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    machine = replace(fake_machine(probes=probes), sleep=wait, clock_s=lambda: now[0])
    gate = gate_of(machine, SEARCH)
    assert gate.wait() == () and gate.set_point_c == 48.0
    probes.conditions = Conditions(2, temperature_c=50.9)
    assert gate.wait() == ()
    probes.conditions = Conditions(3, temperature_c=51.2)
    assert gate.wait() == ("gate: 51.2 C is +3.2 C off the set point",)


def test_a_governor_that_lies_is_found_by_counting_cycles() -> None:
    conditions = Conditions(1, temperature_c=50.0, clock_mhz=1800.0)
    machine = replace(
        fake_machine(probes=FakeProbes(conditions)),
        nominal_mhz=1800.0,
        effective_mhz=lambda: 1500.0,
        sleep=lambda _: None,
        clock_s=iter(range(1000)).__next__,
    )
    (why,) = gate_of(machine, QUICK).wait()
    assert why == "gate: the clock runs at 1500 MHz instead of 1800, the governor says 1800"


def test_nobody_waits_for_a_board_whose_lease_is_gone() -> None:
    with pytest.raises(NotYourLease, match="lease ended"):
        gate_of(fake_machine(), QUICK, held=lambda: False).wait()


def test_the_anchor_runs_before_every_block_and_after_the_last(tmp_path: Path) -> None:
    order: list[str] = []
    plan = replace(SEARCH, blocks=2)
    task = Task(Job({}, tmp_path), plan, anchor=Job({}, tmp_path))
    listener = Listener(
        lambda *_: None, lambda _: order.append("program"), lambda _: order.append("anchor")
    )
    measure(fake_machine(), task, listener)
    assert order == ["anchor", "program", "anchor", "program", "anchor"]


def test_bits_and_heat_within_the_window_are_seen() -> None:
    probes = FakeProbes(Conditions(1, 50.0, throttle_bits=0))
    watcher = Watcher(probes, period_s=0.01)
    watcher.start()
    # The firmware's driver clears its bits: at the end they are gone.
    probes.conditions = Conditions(2, 83.0, throttle_bits=4)
    deadline = time.monotonic() + 5
    while watcher.hottest_c != 83.0 and time.monotonic() < deadline:
        time.sleep(0.01)
    probes.conditions = Conditions(3, 60.0, throttle_bits=0)
    watcher.stop()
    assert (watcher.throttle_seen, watcher.hottest_c) == (4, 83.0)


def test_only_a_raspberry_pi_promises_a_clock(tmp_path: Path) -> None:
    root = write(tmp_path, {f"{CPUFREQ}/cpuinfo_max_freq": "1800000"})
    assert nominal_mhz("rpi4", root) == 1800.0
    assert nominal_mhz("local", root) is None
