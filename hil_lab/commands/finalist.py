"""Finding a finished program in a run: shared by export, verify and evaluate."""

from __future__ import annotations

from pathlib import Path

from hil_lab.runs import FINALIST, Run
from host.errors import CallerError
from host.registry import did_you_mean


def finalist_folder(run: Run, at: str | None) -> Path:
    """Return the folder of a finalist: the one named, else that of the only target."""
    folder = run.path("final")
    names = sorted(p.parent.name for p in folder.glob(f"*/{FINALIST}"))
    if not names:
        raise CallerError(f"{run.folder} is not finished: hil-lab resume {run.folder}")
    if at is None:
        found = [name for name in names if name.startswith("at-")]
        if len(found) != 1:
            raise CallerError(f"say which program with --at: {', '.join(names)}")
        return folder / found[0]
    for name in (at, f"at-{at}"):
        if name in names:
            return folder / name
    raise CallerError(f'no program "{at}" in {run.folder}{did_you_mean(at, names)}')
