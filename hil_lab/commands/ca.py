"""`hil-lab ca`: the lab's certificates for boards and people: init, issue, revoke, list."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from firmware_setup.ca.certificates import Leaf
from firmware_setup.ca.lab import CA_DAYS, LEAF_DAYS, LabCA
from hil_lab.console import print_json, print_table, print_text
from hil_lab.revocation import send
from host.errors import CallerError

DEFAULT_FOLDER = "~/.config/hil-lab/ca"
COLUMNS = ("name", "kind", "role", "expires", "revoked")


def run(arguments: argparse.Namespace) -> int:
    """Run one of the actions."""
    actions: dict[str, Callable[[LabCA, argparse.Namespace], int | None]] = {
        "init": _init,
        "issue": _issue,
        "revoke": _revoke,
        "send": _send,
        "list": _list,
    }
    ca = LabCA(Path(arguments.ca or DEFAULT_FOLDER).expanduser())
    return actions[arguments.action](ca, arguments) or 0


def _init(ca: LabCA, arguments: argparse.Namespace) -> None:
    ca.init(arguments.name or "hil-lab", arguments.days or CA_DAYS)
    if arguments.json:
        print_json({"certificate": str(ca.certificate)})
        return
    print_text(f"made     {ca.certificate}")
    print_text(f"keep     {ca.folder / 'ca.key'}: who has it can be anybody in this lab")


def _issue(ca: LabCA, arguments: argparse.Namespace) -> None:
    board = arguments.kind == "board"
    role = arguments.role or ("" if board else "measure")
    wanted = Leaf(_name(arguments), arguments.kind, role, tuple(arguments.host))
    out = Path(arguments.out).expanduser() if arguments.out else None
    issued = ca.issue(wanted, arguments.days or LEAF_DAYS, out)
    paths = [str(p) for p in (issued.certificate, issued.key, issued.authority)]
    if arguments.json:
        print_json({**asdict(issued.entry), "files": paths})
        return
    print_text(f"made     {', '.join(paths)}")
    what = f"answers as {', '.join((wanted.name, *wanted.hosts))}" if board else f"may {role}"
    print_text(f"until    {issued.entry.expires[:10]}, {what}")


def _revoke(ca: LabCA, arguments: argparse.Namespace) -> int:
    taken = ca.revoke(_name(arguments))
    if not arguments.json:
        print_text(f"revoked  {len(taken)} of {arguments.name}")
    if arguments.send:
        return _send(ca, arguments)
    if arguments.json:
        print_json([asdict(entry) for entry in taken])
    else:
        print_text("next     hil-lab ca send tells the boards")
    return 0


def _send(ca: LabCA, arguments: argparse.Namespace) -> int:
    """Tell boards which certificates were revoked; status 1 where one did not hear it."""
    revoked = [entry.fingerprint for entry in ca.entries() if entry.revoked]
    found = send(revoked, arguments.board)
    if arguments.json:
        print_json([asdict(each) for each in found])
    else:
        for each in found:
            print_text(each.text())
    return 0 if all(each.arrived for each in found) else 1


def _list(ca: LabCA, arguments: argparse.Namespace) -> None:
    rows = [asdict(entry) for entry in ca.entries()]
    if arguments.json:
        print_json(rows)
        return
    cells = [[str(row[c])[:10] if c in ("expires", "revoked") else row[c] for c in COLUMNS]
             for row in rows]  # fmt: skip
    print_table([c.upper() for c in COLUMNS], [[cell or "-" for cell in row] for row in cells])


def _name(arguments: argparse.Namespace) -> str:
    if not arguments.name:
        raise CallerError(f"name a board or a person: hil-lab ca {arguments.action} NAME")
    return str(arguments.name)
