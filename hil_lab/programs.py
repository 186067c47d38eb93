"""Where the program of a measurement is kept: among the runs beside the store; builds nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from host.artifact import Artifact
from host.boards.types import Measurement
from host.errors import ArtifactRejected, CallerError

PLACES = ("*/reference/manifest.json", "*/final/*/artifact*/manifest.json")


def kept_program(runs: Path, measurement: Measurement) -> Artifact | None:
    """Return the artifact that was measured, else one of the same structure, else None.

    Latency depends on the structure alone, not on the values of weights.
    """
    alike = None
    for artifact in _artifacts(runs):
        if artifact.digest == measurement.artifact:
            return artifact
        if artifact.manifest.get("structure") == measurement.structure:
            alike = alike or artifact
    return alike


def given_program(folder: Path, measurement: Measurement) -> Artifact:
    """Return the artifact of a folder; raises CallerError where it is another program."""
    artifact = Artifact.load(folder)
    if artifact.manifest["structure"] != measurement.structure:
        raise CallerError(f"{folder} is another program than was measured")
    return artifact


def kept_by_digest(runs: Path, digest: str) -> Artifact | None:
    """Return the artifact of a digest, None where it is not kept."""
    return next((a for a in _artifacts(runs) if a.digest == digest), None)


def _artifacts(runs: Path) -> Iterator[Artifact]:
    for place in PLACES:
        for manifest in sorted(runs.glob(place)):
            try:
                yield Artifact.load(manifest.parent)
            except ArtifactRejected:
                continue  # of another version: not what is looked for
