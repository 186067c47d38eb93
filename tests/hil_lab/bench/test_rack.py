"""The rack's figures: what is counted, what the bars are of, and what a process takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from hil_lab.bench import rack
from hil_lab.bench.processes import cpu_s, peak_rss_bytes
from hil_lab.bench.rack import MEASUREMENT_S, PLAN, Member
from host.boards.types import Progress


def member(seconds: list[float], shares: list[float], pid: int = os.getpid()) -> Member:
    process: Any = SimpleNamespace(name="sim-01", process=SimpleNamespace(pid=pid))
    session: Any = None
    return Member(process, session, list(shares), list(seconds))


def test_a_measurement_is_one_second_of_the_board() -> None:
    assert MEASUREMENT_S == PLAN.seconds == PLAN.cap_s == 1.0
    assert PLAN.warmup_cap_s == 0.0 and PLAN.blocks == 1


def test_the_throughput_is_of_boards_that_never_wait() -> None:
    members = [member([1.0] * 5, [0.5]), member([1.0] * 5, [0.7])]
    report = rack._report(members, 6.25, {"rounds": 5})
    rate, memory, cpu, worst = report.shows
    assert (rate.value, rate.bar, rate.holds) == (pytest.approx(0.8), 0.9, False)
    assert memory.value == pytest.approx(peak_rss_bytes(os.getpid()) / 1e6, rel=0.1)
    assert (cpu.value, cpu.bar, cpu.holds) == (0.7, 1.0, True)
    assert worst.bar is None
    assert report.samples["boards"][0]["seconds"] == [1.0] * 5


def test_a_window_is_from_sample_to_sampled() -> None:
    one = member([], [])
    for phase in ("gate", "warmup", "sample", "sampled"):
        one._progressed(Progress(phase, 0))
    assert len(one.window_cpu_percent) == 1


def test_the_time_of_another_process_is_its_own() -> None:
    command = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(command) as busy:
        try:
            before, until = cpu_s(busy.pid), time.monotonic() + 20
            while cpu_s(busy.pid) - before < 0.05 and time.monotonic() < until:
                time.sleep(0.05)
            assert cpu_s(busy.pid) - before >= 0.05
            assert peak_rss_bytes(busy.pid) > 1 << 20
        finally:
            busy.kill()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as idle:
        time.sleep(1.0)
        before = cpu_s(idle.pid)
        time.sleep(0.3)
        assert cpu_s(idle.pid) - before < 0.2
        idle.communicate(b"\n")
