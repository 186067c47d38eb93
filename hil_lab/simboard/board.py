"""The simulated Raspberry Pi 4: a runner and probes to put under the real agent server.

Latency comes from the kernel table in virtual time; outputs come from really running the program,
in a child process, under qemu where need be. It never pretends to have computed an output.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from device_agent.errors import Unsupported
from device_agent.measure import Machine
from device_agent.runner import OnPhase, Runner
from device_agent.supervise import ProcessRunner
from device_agent.timing import take_block
from device_agent.values import Identity, Job
from hil_lab.simboard import cost
from hil_lab.simboard.faults import (
    HOT_AMBIENT_C,
    SilentThrottle,
    drift_ratio,
    hidden_ratio,
    lost_share,
    run_fault,
)
from hil_lab.simboard.noise import FIRST_UNIT, factors, unit_factor
from hil_lab.simboard.pace import Pace
from hil_lab.simboard.power import CORES, SimMeter
from hil_lab.simboard.thermal import AMBIENT_C, Physics
from host.canonical import canonical_json
from protos.values import (
    Block,
    Conditions,
    Counter,
    KernelTiming,
    Profile,
    TimingPlan,
    VerifyReport,
)

KIND = "sim:rpi4"
ARCH = "aarch64"
CLOCKS_MHZ = (1500, 1800)  # fact: before and since board revision 1.4 with arm_boost
FREE_MEMORY_BYTES = 3 << 30


@dataclass(frozen=True, slots=True)
class SimSettings:
    """What may be chosen: the noise's seed, the clock, one fault, the board of a rack.

    With a `pace` virtual time also passes for real: seconds of it per second of the board, 0 none.
    """

    seed: int = 0
    clock_mhz: int = 1800
    fault: str | None = None
    unit: int = FIRST_UNIT
    pace: float = 0.0


class SimProbes:
    """The conditions of the simulated board."""

    def __init__(self, physics: Physics) -> None:
        self._physics = physics

    def read(self) -> Conditions:
        """Return the conditions at this virtual instant."""
        physics = self._physics
        return Conditions(
            at_ns=physics.now_ns,
            temperature_c=round(physics.temperature_c, 1),
            clock_mhz=round(physics.clock_mhz(), 1),
            throttle_bits=physics.present_bits() | physics.sticky_bits,
            load_ratio=0.0,
            free_memory_bytes=FREE_MEMORY_BYTES,
            governor="performance",
        )


class SimRunner:
    """A Runner whose time is the cost model's and whose outputs are `numbers`'."""

    def __init__(self, settings: SimSettings, physics: Physics, numbers: Runner | None) -> None:
        self._settings = settings
        self._physics = physics
        self._native = ProcessRunner(counters=())
        self._foreign = numbers
        self._blocks = 0
        self._measurements = 0
        self.busy_cores = 0.0

    @contextmanager
    def measuring(self) -> Iterator[tuple[str, ...]]:
        """Begin a measurement on a rested board, so that its numbers depend on nothing before."""
        self._physics.rest()
        self._physics.hidden_ratio = hidden_ratio(self._settings.fault)
        self._blocks = 0
        self._measurements += 1
        yield ()

    def block(self, job: Job, plan: TimingPlan, on_phase: OnPhase) -> Block:
        """Take one block of samples in virtual time."""
        run_fault(self._settings.fault, job.limits, self._physics)
        self._blocks += 1
        key = (canonical_json(_fields(plan)), self._blocks)
        costs = self._costs(job)
        noise = self._noise(job, *key)
        fault = self._settings.fault
        nominal_ns = sum(c.seconds for c in costs) * 1e9 * drift_ratio(fault, self._measurements)
        physics, full_mhz = self._physics, float(self._settings.clock_mhz)
        cores = self.busy_cores = float(min(job.manifest.get("threads", 1), CORES))

        def invoke() -> None:
            slowdown = full_mhz / physics.real_mhz()
            physics.advance(int(nominal_ns * next(noise) * slowdown), cores)

        watched = SilentThrottle(fault, plan, physics, on_phase)
        try:
            block = take_block(watched.around(invoke), plan, physics.clock_ns, watched.on_phase)
            physics.pace.settle()
        finally:
            self.busy_cores = 0.0
        window_ns, runs = sum(block.samples_ns), len(block.samples_ns)
        return replace(block, counters=_counters(costs, window_ns, runs))

    def verify(self, job: Job) -> VerifyReport:
        """Run the golden input for real."""
        run_fault(self._settings.fault, job.limits, self._physics)
        return self._numbers(job).verify(job)

    def infer(self, job: Job, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Run samples for real."""
        run_fault(self._settings.fault, job.limits, self._physics)
        yield from self._numbers(job).infer(job, batches)

    def profile(self, job: Job, repeats: int) -> Profile:
        """Return the model's time and bus events of every kernel, with noise on the time."""
        run_fault(self._settings.fault, job.limits, self._physics)
        costs = self._costs(job)
        noise, whole_noise = self._noise(job, "profile"), self._noise(job, "profile", "whole")
        kernels = []
        for index, (row, c) in enumerate(zip(job.manifest["kernels"], costs, strict=True)):
            samples_ns = tuple(int(c.seconds * 1e9 * next(noise)) for _ in range(repeats))
            names = (row["call"], row["layer"], row["kind"])
            events = _counters((c,), sum(samples_ns), repeats)
            kernels.append(KernelTiming(index, *names, samples_ns, counters=events))
        nominal_ns = sum(c.seconds for c in costs) * 1e9
        whole_ns = tuple(int(nominal_ns * next(whole_noise)) for _ in range(repeats))
        return Profile(tuple(kernels), whole_ns)

    def cancel(self) -> None:
        """End a real run, and the waiting of a simulated one."""
        self._physics.pace.end()
        self._native.cancel()
        if self._foreign:
            self._foreign.cancel()

    def _costs(self, job: Job) -> tuple[cost.Cost, ...]:
        """Return what every kernel costs on this unit."""
        settings = self._settings
        found = cost.program_costs(job.manifest, settings.clock_mhz * 1e6)
        return tuple(kernel.slowed(unit_factor(settings.unit)) for kernel in found)

    def _noise(self, job: Job, *key: object) -> Iterator[float]:
        seed, unit = self._settings.seed, self._settings.unit
        own = () if unit == FIRST_UNIT else (f"unit {unit}",)
        return factors(seed, *own, job.manifest["structure"], *key)

    def _numbers(self, job: Job) -> Runner:
        arch = job.manifest["arch"]
        if arch == platform.machine():
            return self._native
        if self._foreign:
            return self._foreign
        raise Unsupported(
            f"the numbers of an {arch} artifact need qemu-{arch} on this machine: install "
            "qemu-user-static and make an arm64 root with .ci/arm64-root (docs/simboard.md)"
        )


def sim_machine(
    name: str, settings: SimSettings | None = None, numbers: Runner | None = None
) -> Machine:
    """Return a simulated board; `numbers` runs artifacts of its architecture under emulation."""
    settings = settings or SimSettings()
    ambient_c = HOT_AMBIENT_C if settings.fault == "throttle" else AMBIENT_C
    physics = Physics(float(settings.clock_mhz), ambient_c, pace=Pace(settings.pace))
    runner = SimRunner(settings, physics, numbers)
    return Machine(
        identity=_identity(name, settings),
        runner=runner,
        probes=SimProbes(physics),
        meter=SimMeter(physics.clock_ns, lambda: runner.busy_cores, lost_share(settings.fault)),
        tuned=runner.measuring,
        sleep=physics.sleep,
        clock_s=physics.clock_s,
        nominal_mhz=float(settings.clock_mhz),
        effective_mhz=lambda: round(physics.real_mhz(), 1),
        watch_s=None,  # virtual time: the physics remembers what happened
        also_runs=frozenset({platform.machine()}),
    )


def _identity(name: str, settings: SimSettings) -> Identity:
    fingerprint = {
        "kind": KIND,
        "arch": ARCH,
        "clock_mhz": str(settings.clock_mhz),
        "model_version": str(cost.MODEL_VERSION),
        "seed": str(settings.seed),
    }
    if settings.fault:
        fingerprint["fault"] = settings.fault
    if settings.unit != FIRST_UNIT:
        fingerprint["unit"] = str(settings.unit)
    capabilities = ("verify", "infer", "profile", "energy", "counters")
    return Identity(name, KIND, ARCH, fingerprint, capabilities)


def _counters(costs: Sequence[cost.Cost], window_ns: int, runs: int) -> tuple[Counter, ...]:
    """Bus and cache events as the model has them; the cycle count follows from time."""
    counts = cost.event_counts(costs)
    return tuple(Counter(name, n * runs, window_ns, window_ns) for name, n in counts.items())


def _fields(plan: TimingPlan) -> dict[str, Any]:
    return {name: getattr(plan, name) for name in plan.__dataclass_fields__}
