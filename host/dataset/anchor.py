"""The program that boards are watched by where no network is at hand: one layer, never changed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from host.artifact import Artifact
from host.dataset.kernels import KernelSpec, LayerPrograms
from host.lower.targets import Target

# A convolution that keeps a core at its peak: what it takes depends on the clock alone.
ANCHOR = KernelSpec("conv", 64, 64, 28, 3, 1, 1)
MANIFEST = "manifest.json"


def anchor_program(target: Target, folder: Path, threads: int = 1) -> Artifact:
    """Return the anchor for a kind of machine, built in its folder the first time."""
    if (folder / MANIFEST).is_file():
        return Artifact.load(folder)
    return LayerPrograms(target, threads).build(asdict(ANCHOR), folder)
