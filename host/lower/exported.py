"""Programs out of files that torch.export wrote; never runs them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

from host.errors import CheckpointError, UnsupportedLayer
from host.lower.importer import Importer, quiet
from host.lower.program import Program

SUFFIX = ".pt2"


def read_program(path: Path, *, lenient: bool = False) -> Program:
    """Return the operations of an exported program.

    `lenient` keeps operations without a kernel as nodes of their own, for costs alone; raises
    CheckpointError for what is no exported program, UnsupportedLayer for what has no kernel.
    """
    try:
        with quiet():
            exported = torch.export.load(path)
    except FileNotFoundError as e:
        raise CheckpointError(f"{path}: no such file") from e
    except (OSError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as e:
        why = str(e).strip().partition("\n")[0]
        raise CheckpointError(f"{path} is not what torch.export.save writes: {why}") from e
    inputs = exported.graph_signature.user_inputs
    if len(inputs) != 1:
        raise UnsupportedLayer(f"{path} takes {len(inputs)} inputs; export it with one")
    try:
        return Importer(exported, lenient=lenient).run()
    except UnsupportedLayer as e:
        raise UnsupportedLayer(f"{path}: {e}") from e
