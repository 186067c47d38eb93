"""Hardware event counts of this process, in passes; absence is reported, never fatal, never zero.

Open them before threads start: `inherit` counts later threads. Groups cannot be inherited, so each
event is its own. The Cortex-A72 has six registers beside its cycle counter: more events than that
would share them (multiplexing), so they are counted in passes, one after the other, over different
runs. A time_running below time_enabled says that the kernel multiplexed all the same.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from device_agent.perf import DISABLE, ENABLE, HARDWARE, RAW, RESET, LinuxPerf, Perf, Reading
from protos.values import Counter

__all__ = ["Counters", "Pass", "Reading", "counted", "effective_mhz", "opened"]

REGISTERS = 6
CYCLES = "cycles"  # has a register of its own
# Generic events everywhere; raw codes of the Cortex-A72 (generic cache-misses is only L1D there).
GENERIC = {CYCLES: 0, "instructions": 1, "branch-misses": 5}
CORTEX_A72 = {
    "l1i_refill": 0x01, "l1d_refill": 0x03, "l1d_cache": 0x04, "dtlb_refill": 0x05,
    "br_mis_pred": 0x10, "l2d_cache": 0x16, "l2d_refill": 0x17, "bus_access": 0x19,
    "ld_spec": 0x70, "st_spec": 0x71, "ase_spec": 0x74,
}  # fmt: skip
# boards.md section 3; on other machines what they have.
DEFAULT_COUNTERS = {
    "aarch64": (
        CYCLES,
        "instructions", "l1d_cache", "l1d_refill", "l2d_cache", "l2d_refill", "bus_access",
        "ase_spec", "ld_spec", "st_spec", "br_mis_pred", "l1i_refill", "dtlb_refill",
    ),
    "x86_64": tuple(GENERIC),
}  # fmt: skip
_SPINS, _SPIN_STEPS = 5, 100_000  # about 10 to 30 ms of user-space work


class Pass:
    """Events that are counted together."""

    def __init__(self, perf: Perf, files: Mapping[str, int]) -> None:
        self._perf = perf
        self._files = files

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the events that are open."""
        return tuple(self._files)

    def start(self) -> None:
        """Count from zero."""
        self._all(RESET)
        self._all(ENABLE)

    def stop(self) -> None:
        """Stop counting."""
        self._all(DISABLE)

    def read(self, runs: int = 0) -> tuple[Counter, ...]:
        """Return the counts of so many inferences, scaled up where they were multiplexed."""
        pairs = zip(self._files, self.readings(), strict=True)
        return tuple(found for name, reading in pairs if (found := counted(name, reading, runs)))

    def readings(self) -> tuple[Reading, ...]:
        """Return (value, enabled ns, running ns) of every event as the kernel has them."""
        return tuple(self._perf.read(file) for file in self._files.values())

    def _all(self, request: int) -> None:
        for file in self._files.values():
            self._perf.control(file, request)


class Counters:
    """Open events, in passes; `notes` says which could not be opened and why."""

    def __init__(self, passes: Sequence[Pass], notes: tuple[str, ...]) -> None:
        self.passes = tuple(each for each in passes if each.names)
        self.notes = notes

    def silent(self, counted: Iterable[Counter]) -> tuple[str, ...]:
        """Say which open events are not among some that were counted: they never ran."""
        heard = {counter.name for counter in counted}
        names = [name for each in self.passes for name in each.names]
        return tuple(f"counter {name}: never ran" for name in names if name not in heard)


def in_passes(names: Sequence[str]) -> list[list[str]]:
    """Split events into passes of at most six, in order; cycles ride in the first for nothing."""
    shared = [name for name in names if name != CYCLES]
    passes = [shared[i : i + REGISTERS] for i in range(0, len(shared), REGISTERS)] or [[]]
    if CYCLES in names:
        passes[0] = [CYCLES, *passes[0]]
    return passes


@contextmanager
def opened(
    names: Sequence[str], arch: str = platform.machine(), perf: Perf | None = None
) -> Iterator[Counters]:
    """Open events by name, or by raw code as "r0x17"."""
    perf = perf or LinuxPerf(arch)
    passes: list[dict[str, int]] = []
    notes: list[str] = []
    try:
        for group in in_passes(names):
            passes.append({})
            for name in group:
                try:
                    passes[-1][name] = perf.open(*event(name, arch))
                except OSError as e:
                    notes.append(f"counter {name}: {e.strerror}")
                except KeyError:
                    notes.append(f"counter {name}: unknown on {arch}")
        yield Counters([Pass(perf, files) for files in passes], tuple(notes))
    finally:
        for files in passes:
            for file in files.values():
                perf.close(file)


def event(name: str, arch: str) -> tuple[int, int]:
    """Return the kind and the code of an event; raises KeyError for an unknown one."""
    if name.startswith("r0x"):
        return RAW, int(name[1:], 16)
    if name in GENERIC:
        return HARDWARE, GENERIC[name]
    if arch == "aarch64":
        return RAW, CORTEX_A72[name]
    raise KeyError(name)


def counted(name: str, reading: Reading, runs: int = 0) -> Counter | None:
    """Return an event's count, scaled up where it was multiplexed; None where it never ran."""
    value, enabled_ns, running_ns = reading
    if running_ns <= 0:
        return None
    if running_ns < enabled_ns:
        value = round(value * enabled_ns / running_ns)
    return Counter(name, value, enabled_ns, running_ns, runs)


def effective_mhz(perf: Perf | None = None, arch: str = platform.machine()) -> float | None:
    """Return the clock that a short busy loop really ran at; None where cycles are not counted.

    Cycles over busy time: what a governor says is only what it asked for.
    """
    with opened((CYCLES,), arch, perf) as counters:
        if not counters.passes:
            return None
        (cycles,) = counters.passes
        cycles.start()
        for _ in range(_SPINS):
            sum(range(_SPIN_STEPS))
        cycles.stop()
        found = cycles.read()
    return found[0].value / found[0].enabled_ns * 1e3 if found else None
