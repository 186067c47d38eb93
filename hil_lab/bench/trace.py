"""A finished trial without its policies: small enough to be kept with the results it is behind.

Comparisons are printed from traces, so that anyone can print them again without running a search.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil_lab.simboard.cost import MODEL_VERSION
from hil_lab.workbench import versions
from host.errors import StoreError
from host.lower.kernels.kernel import KERNELS_VERSION
from host.search.episode import Episode

TRACE_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Step:
    """One episode: its policy and its program by their first appearance, and what they came to."""

    policy: int
    program: int
    accuracy: float
    latency_ms: float
    measured: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """The steps of a trial; `before` programs were measured first, fp32 among them.

    `images` scored each candidate; `versions` are those of all that the numbers depend on.
    """

    reference_ms: float
    before: int
    images: int
    steps: tuple[Step, ...]
    versions: Mapping[str, str]

    @classmethod
    def of(cls, episodes: Sequence[Episode], reference_ms: float, before: int) -> Trace:
        """Return the trace of a finished trial."""
        policies: dict[str, int] = {}
        programs: dict[str, int] = {}
        steps = []
        for episode in episodes:
            policy = policies.setdefault(episode.policy.digest(), len(policies))
            program = programs.setdefault(episode.policy.structure_digest(), len(programs))
            accuracy = episode.evaluation.accuracy
            steps.append(Step(policy, program, accuracy, episode.latency_ms, episode.measured))
        images = episodes[0].evaluation.samples if episodes else 0
        return cls(reference_ms, before, images, tuple(steps), present())

    def write(self, path: Path) -> None:
        """Write the trace, a line for each step."""
        head = {
            "format": TRACE_FORMAT,
            "reference_ms": self.reference_ms,
            "before": self.before,
            "images": self.images,
            "versions": dict(self.versions),
        }
        rows = [
            [s.policy, s.program, s.accuracy, s.latency_ms, int(s.measured)] for s in self.steps
        ]
        lines = [json.dumps(head), *(json.dumps(row, separators=(",", ":")) for row in rows)]
        path.write_text("\n".join(lines) + "\n")

    @classmethod
    def read(cls, path: Path) -> Trace:
        """Read a trace; raises StoreError for a file that is none."""
        try:
            head, *rows = map(json.loads, path.read_text().splitlines())
            steps = tuple(Step(p, s, a, ms, bool(m)) for p, s, a, ms, m in rows)
            if head["format"] != TRACE_FORMAT:
                raise ValueError(f"format {head['format']}")
            fields = (head["reference_ms"], head["before"], head["images"])
            return cls(*fields, steps, head["versions"])
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise StoreError(f"{path} is no trace of a trial ({e}); remove the file") from e


def present() -> dict[str, Any]:
    """Return the versions of what the numbers of a trial depend on."""
    own = {"kernels": str(KERNELS_VERSION), "sim:rpi4": str(MODEL_VERSION)}
    return {**versions(), **own}
