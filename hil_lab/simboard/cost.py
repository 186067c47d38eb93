"""How long a Cortex-A72 takes for each row of an artifact's kernel table; a model, never a clock.

docs/simboard.md explains the model; cycles of arithmetic are host.lower.cycles. Every constant says
where it comes from: "fact" is a data sheet or a published benchmark, "guess" a value that no source
here states.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from host.lower.cycles import compute_cycles

MODEL_VERSION = 3  # part of the simulated board's fingerprint

L1D_BYTES = 32 << 10  # fact: 32 KiB per core
L2_BYTES = 1 << 20  # fact: 1 MiB shared by the four cores
LINE_BYTES = 64  # fact
DRAM_BYTES_PER_S = 4.8e9  # fact: the lower STREAM figure of a Raspberry Pi 4
L1_BYTES_PER_CYCLE = 16.0  # guess: one 128-bit load per cycle
L2_BYTES_PER_CYCLE = 8.0  # guess: half of L1, streaming
CALL_OVERHEAD_S = 2e-6  # guess: the graph's call and its argument checks; 1 us on a workstation
THREAD_EFFICIENCY = 0.85  # guess: what each further core adds
MAX_THREADS = 4  # fact: cores

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cost:
    """One kernel call: seconds of arithmetic, of traffic with caches and DRAM, bytes from DRAM."""

    compute_s: float
    cache_s: float
    dram_s: float
    dram_bytes: int

    @property
    def memory_s(self) -> float:
        """Seconds of all memory traffic."""
        return self.cache_s + self.dram_s

    def slowed(self, factor: float) -> Cost:
        """Return the same on a board that takes so many times as long."""
        times = {x: getattr(self, x) * factor for x in ("compute_s", "cache_s", "dram_s")}
        return replace(self, **times)

    @property
    def seconds(self) -> float:
        """The slower of the two, which overlap, and the call itself."""
        return max(self.compute_s, self.memory_s) + CALL_OVERHEAD_S


def event_counts(costs: Iterable[Cost]) -> dict[str, int]:
    """Return the bus and cache events of some kernel calls, by their names on the Cortex-A72."""
    refills = sum(cost.dram_bytes for cost in costs) // LINE_BYTES
    return {"l2d_refill": refills, "bus_access": refills}


def program_costs(manifest: Mapping[str, Any], clock_hz: float) -> tuple[Cost, ...]:
    """Return the cost of every row of the kernel table at this clock."""
    rows = manifest["kernels"]
    resident = footprint_bytes(rows) <= L2_BYTES
    return tuple(_cost(row, clock_hz, manifest.get("threads", 1), resident) for row in rows)


def footprint_bytes(rows: list[Row]) -> int:
    """Bytes that one inference touches: all weights and the largest pair of activations."""
    weights = sum(int(row["weight_bytes"]) for row in rows)
    return weights + max((_activations(row) for row in rows), default=0)


def _cost(row: Row, clock_hz: float, threads: int, resident: bool) -> Cost:
    cores = 1 + THREAD_EFFICIENCY * (min(threads, MAX_THREADS) - 1)
    activations, weights = _activations(row), row["weight_bytes"]
    working_set = activations + weights
    if working_set <= L1D_BYTES:
        near, far = activations, 0
        cache_s = near / (L1_BYTES_PER_CYCLE * clock_hz)
    else:
        far = max(0, activations - L2_BYTES)
        cache_s = (activations - far) / (L2_BYTES_PER_CYCLE * clock_hz)
    # Weights were last read one inference ago: they are still near only if everything fits.
    if resident:
        cache_s += weights / (L2_BYTES_PER_CYCLE * clock_hz)
    else:
        far += weights
    compute_s = compute_cycles(row) / (clock_hz * cores)
    return Cost(compute_s, cache_s / cores, far / DRAM_BYTES_PER_S, far)


def _activations(row: Row) -> int:
    return int(row["bytes_read"]) + int(row["bytes_written"])
