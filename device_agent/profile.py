"""Time every kernel of a program by call order; never attributes time by a kernel's name alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from device_agent.program import Program, Watch
from protos.values import KernelTiming

WARMUP_RUNS = 2


def profile(
    program: Program, repeats: int, clock_ns: Callable[[], int]
) -> tuple[KernelTiming, ...]:
    """Return one sample per kernel row and repeat; each includes about 1 us of the instrument."""
    inputs = program.example()
    for _ in range(WARMUP_RUNS):
        program.run(inputs)
    stopwatch = _Stopwatch(program, clock_ns)
    for _ in range(repeats):
        program.run_watched(inputs, stopwatch)
    return tuple(
        KernelTiming(i, row["call"], row["layer"], row["kind"], tuple(samples))
        for i, (row, samples) in enumerate(
            zip(program.manifest["kernels"], stopwatch.samples_ns, strict=True)
        )
    )


class _Stopwatch(Watch):
    def __init__(self, program: Program, clock_ns: Callable[[], int]) -> None:
        super().__init__(program.manifest)
        self._clock_ns = clock_ns
        self._start = 0
        self.samples_ns: list[list[int]] = [[] for _ in program.manifest["kernels"]]

    def before(self) -> None:
        self._start = self._clock_ns()

    def after(self, index: int, func: Callable[..., Any], args: Sequence[Any]) -> None:
        self.samples_ns[index].append(self._clock_ns() - self._start)
