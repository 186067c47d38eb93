"""`hil-lab export`: a finished program in a folder of its own, with how to run it."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from hil_lab.commands.finalist import finalist_folder
from hil_lab.console import print_text
from hil_lab.runs import FINALIST, NETWORK, POLICY, open_run
from host.errors import CallerError, StoreError

_README = """# {name} of run {run}

| | |
| --- | --- |
| accuracy on test | {accuracy:.2%} of {samples} images |
| latency | {latency:.4f} ms ({verdict}) |
| size of the weights | {size} bytes |

* `artifact/` the program for the board; `hil-lab boards measure BOARD artifact` runs it
* `artifact-local/` the same program for the machine that built it
* `policy.json` what was done to every layer
* `network.safetensors` the trained weights behind it
* `finalist.json` every figure with where it came from

Prove it again: `hil-lab verify {out} --board local`
"""


def run(arguments: argparse.Namespace) -> int:
    """Copy the program out."""
    found = open_run(Path(arguments.run))
    folder, out = finalist_folder(found, arguments.at), Path(arguments.out)
    if out.exists() and any(out.iterdir()):
        raise CallerError(f"{out} is not empty; name a new folder")
    try:
        for part in ("artifact", "artifact-local"):
            shutil.copytree(folder / part, out / part)
        for name in (POLICY, NETWORK, FINALIST):
            shutil.copyfile(folder / name, out / name)
        (out / "README.md").write_text(_readme(out, found.name))
    except OSError as e:
        raise StoreError(f"cannot write {out}: {e}; free some space and give a new folder") from e
    print_text(str(out))
    return 0


def _readme(out: Path, run: str) -> str:
    record = json.loads((out / FINALIST).read_text())
    e = record["evaluation"]
    return _README.format(
        name=record["name"],
        run=run,
        accuracy=e["accuracy"],
        samples=e["samples"],
        latency=e["latency_ms"]["value"],
        verdict=e["verdict"],
        size=e["size_bytes"],
        out=out,
    )
