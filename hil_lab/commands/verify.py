"""`hil-lab verify`: run a program's golden input and compare every integer with the network's."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from hil_lab.commands.finalist import finalist_folder
from hil_lab.console import print_json, print_table, print_text
from hil_lab.held import held
from hil_lab.runs import RECIPE, open_run
from host.artifact import Artifact
from host.errors import CallerError
from host.verify import complaints, summary
from protos.values import VerifyReport


def run(arguments: argparse.Namespace) -> int:
    """Verify; exit status 1 where anything differs."""
    with held(arguments.board, "verify", silent=arguments.json) as board:
        artifact = artifact_for(Path(arguments.run), arguments.at, board.info.arch)
        report = board.do(lambda session: session.verify(artifact))
        where = f"{artifact.manifest['arch']} artifact on {board.info.name}"
    found = complaints(report)
    if arguments.json:
        print_json({"where": where, "complaints": found, **asdict(report)})
    else:
        _print(report, where, found)
    return 1 if found else 0


def artifact_for(path: Path, at: str | None, arch: str) -> Artifact:
    """Return the artifact of a run, an export or an artifact folder that a machine can run."""
    if (path / "manifest.json").is_file():
        return Artifact.load(path)
    folder = finalist_folder(open_run(path), at) if (path / RECIPE).is_file() else path
    for part in ("artifact", "artifact-local"):
        if (folder / part).is_dir():
            artifact = Artifact.load(folder / part)
            if artifact.manifest["arch"] == arch:
                return artifact
    raise CallerError(f"{path} holds no program for {arch}")


def _print(report: VerifyReport, where: str, found: list[str]) -> None:
    columns = ("layer", "input codes", "differ", "ties", "accumulators", "differ", "largest")
    rows = [
        [
            c.layer,
            *map(str, (c.quantize_elements, c.quantize_mismatches, c.quantize_ties)),
            *map(str, (c.accumulate_elements, c.accumulate_mismatches, c.accumulate_largest)),
        ]
        for c in report.layers
    ]
    print_table(columns, rows)
    print_text(f"{where}: {summary(report)}")
    for sentence in found:
        print_text(f"error: {sentence}")
