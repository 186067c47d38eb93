"""`hil-lab provision`: a fresh system becomes a board over SSH; looks, changes, or undoes."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from firmware_setup.ca.certificates import Leaf
from firmware_setup.ca.lab import LabCA
from firmware_setup.cloud_init import HostKey, remember, user_data
from firmware_setup.provision import Difference, Provisioner
from firmware_setup.ssh import Login, SshRemote
from firmware_setup.wanted import Choices, Credentials
from hil_lab.commands.ca import DEFAULT_FOLDER
from hil_lab.console import RichReporter, Silent, print_json, print_table, print_text
from hil_lab.inventory import DEFAULT_INVENTORY, add_entry
from hil_lab.welcome import Welcome, welcome
from hil_lab.wires import OWN_FILES, OWN_FOLDER
from host.errors import CallerError
from host.lower.objects import default_cache

PORT = 7010
LOGIN_KEY = Path("~/.ssh/id_ed25519.pub")


def run(arguments: argparse.Namespace) -> int:
    """Check, provision or undo one board, or write the user-data of a fresh card."""
    if arguments.cloud_init:
        return _cloud_init(arguments)
    login = Login.parse(
        _login(arguments), Path(arguments.key) if arguments.key else None, arguments.host_key
    )
    with SshRemote(login) as remote:
        reporter = Silent() if arguments.json else RichReporter()
        name = arguments.name or login.host.partition(".")[0]
        meters = tuple(arguments.meter)
        choices = Choices(name, arguments.kind, arguments.bind, meters, aslr=arguments.aslr)
        board = Provisioner(remote, choices, default_cache(), say=reporter.say)
        if arguments.undo:
            return _undo(board, arguments)
        if arguments.update:
            return _update(board, arguments)
        _check_own()
        board.credentials = credentials(_ca(arguments), name, login.host)
        if arguments.check:
            return _check(board, arguments)
        changed = board.apply()
        kind = choices.kind or board.facts.kind
    address = arguments.address or f"{login.host}:{PORT}"
    listed = add_entry(DEFAULT_INVENTORY, name, kind, address)
    minutes = 0.0 if arguments.quick else arguments.burn_in
    greeting = welcome(
        name, _ca(arguments), Path("."), burn_in_s=60 * minutes, quick=arguments.quick
    )
    return _done(changed, listed, greeting, arguments)


def credentials(ca: LabCA, name: str, host: str) -> Credentials:
    """Return a board's certificate, made where there is none that is good."""
    issued = ca.folder / "issued" / name
    live = [e for e in ca.entries() if e.name == name and e.live(ca.now())]
    good = live and host in (*live[-1].hosts, name) and (issued / "agent.key").is_file()
    if live and not good:
        ca.revoke(name)
    if not good:
        ca.issue(Leaf(name, "board", hosts=(host,)))
    return Credentials(
        (issued / "agent.crt").read_bytes(),
        (issued / "agent.key").read_bytes(),
        ca.certificate.read_bytes(),
        ca.revoked.read_bytes(),
    )


def _check_own() -> None:
    """Raise CallerError where we could not talk to the board afterwards."""
    missing = [n for n in OWN_FILES.values() if not (OWN_FOLDER / n).expanduser().is_file()]
    if missing:
        raise CallerError(
            f"{OWN_FOLDER / missing[0]}: no such file; a board answers to certificates alone, so "
            f"make yours first: hil-lab ca issue NAME --out {OWN_FOLDER}"
        )


def _ca(arguments: argparse.Namespace) -> LabCA:
    return LabCA(Path(arguments.ca or DEFAULT_FOLDER).expanduser())


def _login(arguments: argparse.Namespace) -> str:
    if not arguments.login:
        raise CallerError("name a login: hil-lab provision pi@HOST")
    return str(arguments.login)


def _check(board: Provisioner, arguments: argparse.Namespace) -> int:
    found = board.check()
    if arguments.json:
        print_json({"differences": [asdict(d) for d in found]})
    elif found:
        print_table(("what", "is"), [[d.what, d.how] for d in found])
    else:
        print_text("nothing differs: this is a board of yours")
    return 1 if found else 0


def _update(board: Provisioner, arguments: argparse.Namespace) -> int:
    """Bring agent and units up to date; certificates, inventory and baseline stay."""
    changed = board.apply()
    if arguments.json:
        print_json({"changed": [asdict(d) for d in changed]})
    else:
        print_text(f"changed  {len(changed)} things" if changed else "changed  nothing")
    return 0


def _undo(board: Provisioner, arguments: argparse.Namespace) -> int:
    undone = board.undo()
    if arguments.json:
        print_json({"undone": undone})
    else:
        print_text("\n".join(undone) or "nothing was changed here")
    return 0


def _done(
    changed: list[Difference], listed: bool, greeting: Welcome, arguments: argparse.Namespace
) -> int:
    if arguments.json:
        print_json({"changed": [asdict(d) for d in changed], **greeting.to_dict()})
    else:
        print_text(f"changed  {len(changed)} things" if changed else "changed  nothing")
        if listed:
            print_text(f"listed   {greeting.board} in {DEFAULT_INVENTORY}")
        print_text(greeting.text())
    return 0 if greeting.well else 1


def _cloud_init(arguments: argparse.Namespace) -> int:
    if not arguments.name:
        raise CallerError("name the board: hil-lab provision --cloud-init --name pi4-01")
    user = (arguments.login or "pi").partition("@")[0]
    key = HostKey.new()
    text = user_data(arguments.name, user, Path(arguments.key or LOGIN_KEY), key)
    remember(arguments.name, key)
    print_text(text.rstrip("\n"))
    return 0
