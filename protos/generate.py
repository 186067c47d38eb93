"""Generate the Python code of board.proto, or check that it is fresh; never edits anything else.

Run `python -m protos.generate [--check]`. The generator is pinned to grpcio-tools 1.71.2, whose
output imports on protobuf 5.29 to 7; a newer one's does not.
"""

from __future__ import annotations

import argparse
import importlib.resources
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROTO = "protos/board.proto"
OUTPUTS = ("board_pb2.py", "board_pb2_grpc.py")


def generate(into: Path) -> None:
    """Write the generated modules under `into`/protos."""
    # Only a development install has the generator.
    from grpc_tools import protoc

    well_known = importlib.resources.files("grpc_tools") / "_proto"
    status = protoc.main(
        [
            "protoc",
            f"-I{HERE.parent}",
            f"-I{well_known}",
            f"--python_out={into}",
            f"--grpc_python_out={into}",
            str(HERE.parent / PROTO),
        ]
    )
    if status != 0:
        raise SystemExit(status)


def stale(fresh: Path) -> list[str]:
    """Name the checked-in modules that differ from the generated ones under `fresh`."""
    return [
        name
        for name in OUTPUTS
        if not (HERE / name).exists() or (HERE / name).read_text() != (fresh / name).read_text()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Generate, or with --check exit 1 when the checked-in code is stale."""
    parser = argparse.ArgumentParser(prog="python -m protos.generate")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = Path(scratch) / "protos"
        if not args.check:
            for name in OUTPUTS:
                shutil.copyfile(fresh / name, HERE / name)
            return 0
        if names := stale(fresh):
            sys.stderr.write(f"{', '.join(names)} stale: run `python -m protos.generate`\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
