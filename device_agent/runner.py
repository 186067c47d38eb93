"""What the agent asks of whatever runs programs, and the runtime's ABI; never runs one itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from device_agent.errors import Rejected, WrongVersion
from device_agent.values import Job
from protos.values import Block, Profile, TimingPlan, VerifyReport

# Bumped when the way an artifact's entry function is called changes.
RUNTIME_ABI = 1
MANIFEST_FORMAT = 2

OnPhase = Callable[[str], None]


class Runner(Protocol):
    """Runs one job at a time; every method raises RunFailed where the program fails."""

    def block(self, job: Job, plan: TimingPlan, on_phase: OnPhase) -> Block:
        """Take one block of samples in a fresh process; phases are warmup, sample and sampled."""
        ...

    def verify(self, job: Job) -> VerifyReport:
        """Run the golden input freely and forced."""
        ...

    def profile(self, job: Job, repeats: int) -> Profile:
        """Time and count every row of the kernel table."""
        ...

    def infer(self, job: Job, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Run batches [n, ...] and yield outputs [n, ...], in order."""
        ...

    def cancel(self) -> None:
        """End what runs now; it raises Cancelled."""
        ...


def check_manifest(manifest: Mapping[str, Any], machines: Sequence[str]) -> None:
    """Raise where this agent cannot run such an artifact."""
    if manifest.get("format") != MANIFEST_FORMAT:
        raise WrongVersion(
            f"artifact format {manifest.get('format')!r}, the agent reads {MANIFEST_FORMAT}: "
            "update the agent (hil-lab provision --update) or build the artifact again"
        )
    if manifest.get("abi") != RUNTIME_ABI:
        raise WrongVersion(
            f"the artifact was built for runtime ABI {manifest.get('abi')}, the agent has "
            f"{RUNTIME_ABI}: update the agent (hil-lab provision --update)"
        )
    if manifest.get("arch") not in machines:
        raise Rejected(
            f"the artifact is for {manifest.get('arch')}, this board is {machines[0]}: "
            "build it for the board's target"
        )
