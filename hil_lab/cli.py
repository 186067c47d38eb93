"""The command line: arguments in, exit status out; every command lives in hil_lab.commands."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

from hil_lab.commands import COMMANDS


class Parser(argparse.ArgumentParser):
    """An argument parser that guesses what was meant and exits with 2."""

    def error(self, message: str) -> NoReturn:
        """Print one sentence and exit."""
        if "invalid choice: " in message:
            wrong, _, choices = message.partition("invalid choice: ")[2].partition(" (choose from ")
            wrong, names = wrong.strip("'"), re.findall(r"[\w-]+", choices)
            close = difflib.get_close_matches(wrong, names, n=1)
            known = f'did you mean "{close[0]}"?' if close else f"known: {', '.join(names)}"
            message = f'unknown command "{wrong}"; {known}'
        sys.stderr.write(f"error: {message}\n")
        raise SystemExit(2)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="hil-lab", description="Hardware-in-the-loop compression for small boards."
    )
    parser.add_argument("--version", action="version", version=f"hil-lab {version('hil-lab')}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        # With no prefix, what looks like an option is an argument too.
        raw: Any = {"prefix_chars": "\0", "add_help": False} if command.raw else {}
        sub = commands.add_parser(name, help=command.help, description=command.help, **raw)
        command.configure(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0 is well, 1 the world failed, 2 the caller is wrong."""
    arguments = make_parser().parse_args(argv)
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # where a recipe's own network is looked for
    logging.basicConfig(level=logging.DEBUG if arguments.debug else logging.WARNING)
    # Imported here: the agent's base install has no host package extras to import.
    from host.allocator import keep_freed_memory
    from host.errors import CallerError, HilError

    keep_freed_memory()
    try:
        return COMMANDS[arguments.command].load()(arguments)
    except HilError as e:
        if arguments.debug:
            raise
        sys.stderr.write(f"error: {e}\n")
        return 2 if isinstance(e, CallerError) else 1
    except ModuleNotFoundError as e:
        if arguments.debug or e.name is None or e.name.partition(".")[0] in ("host", "hil_lab"):
            raise
        sys.stderr.write(
            f"error: this command needs {e.name}, which the base install leaves out: "
            "pip install 'hil-lab[host]'\n"
        )
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was finished is kept: hil-lab resume RUN goes on\n")
        return 130
    except Exception as e:
        if arguments.debug:
            raise
        sys.stderr.write(f"error: {_unforeseen(e)}\n")
        return 1


def _unforeseen(e: Exception) -> str:
    """Return one sentence for what no part of the program has a sentence for."""
    if isinstance(e, OSError) and e.strerror:
        from host.errors import NO_ROOM

        where = f"{e.filename}: " if e.filename else ""
        room = "free some space; " if e.errno in NO_ROOM else ""
        return f"{where}{e.strerror}; {room}what was finished is kept: hil-lab resume RUN goes on"
    said = " ".join(str(e).split())[:200]
    return f"{type(e).__name__}: {said}; this is a fault of hil-lab, --debug shows where"


if __name__ == "__main__":
    raise SystemExit(main())
