"""Reads the board's temperature, clock, throttle bits, load and memory; never changes anything.

Everything comes from files under an injected root (sysfs and procfs); what is absent is None.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from device_agent.values import Identity
from protos.values import Conditions

_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
_CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq"


class Probes(Protocol):
    """Anything that knows the conditions of a board."""

    def read(self) -> Conditions:
        """Return the conditions now."""
        ...


class LinuxProbes:
    """The conditions of a Linux machine whose file system starts at `root`."""

    def __init__(
        self, root: Path = Path("/"), clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._root = root
        self._clock_ns = clock_ns

    def read(self) -> Conditions:
        """Return the conditions now."""
        temperature = self._number("sys/class/thermal/thermal_zone0/temp")
        clock = self._clock_khz()
        load = self._text("proc/loadavg").split()
        return Conditions(
            at_ns=self._clock_ns(),
            temperature_c=None if temperature is None else temperature / 1000,
            clock_mhz=None if clock is None else clock / 1000,
            throttle_bits=self._throttle_bits(),
            load_ratio=float(load[0]) / (os.cpu_count() or 1) if load else None,
            free_memory_bytes=self._free_memory_bytes(),
            governor=self._text(f"{_CPUFREQ}/scaling_governor"),
        )

    def _clock_khz(self) -> float | None:
        """The hardware's clock where root may read it, else only the requested one."""
        real = self._number(f"{_CPUFREQ}/cpuinfo_cur_freq")
        return self._number(f"{_CPUFREQ}/scaling_cur_freq") if real is None else real

    def _throttle_bits(self) -> int | None:
        text = self._text(_THROTTLED)
        return int(text, 16) if text else None

    def _free_memory_bytes(self) -> int | None:
        for line in self._text("proc/meminfo").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return None

    def _number(self, path: str) -> float | None:
        text = self._text(path)
        return float(text) if text else None

    def _text(self, path: str) -> str:
        try:
            return (self._root / path).read_text().strip().strip("\0")
        except OSError:
            return ""


def local_identity(name: str, kind: str, root: Path = Path("/")) -> Identity:
    """Describe this machine; the fingerprint is what its numbers depend on."""
    fingerprint = {
        "kind": kind,
        "arch": platform.machine(),
        "model": _first(root, "proc/device-tree/model", "sys/class/dmi/id/product_name"),
        "serial": _first(root, "proc/device-tree/serial-number"),
        "cpu": _cpu_model(root),
        "cores": str(os.cpu_count() or 0),
        "memory_mib": str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20),
        "kernel": platform.release(),
        "max_khz": _first(root, f"{_CPUFREQ}/cpuinfo_max_freq"),
    }
    known = {key: value for key, value in fingerprint.items() if value}
    return Identity(name, kind, platform.machine(), known, ("verify", "infer", "profile"))


def nominal_mhz(kind: str, root: Path = Path("/")) -> float | None:
    """Return the clock that a tuned board of a kind must run at, None where nobody promises one.

    A Raspberry Pi holds its highest step. A workstation's is a matter of how many cores are busy.
    """
    khz = _first(root, f"{_CPUFREQ}/cpuinfo_max_freq")
    return float(khz) / 1000 if kind.startswith("rpi") and khz else None


def _first(root: Path, *paths: str) -> str:
    for path in paths:
        try:
            return (root / path).read_text().strip().strip("\0")
        except OSError:
            continue
    return ""


def _cpu_model(root: Path) -> str:
    for line in _first(root, "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "CPU part"):
            return value.strip()
    return ""
