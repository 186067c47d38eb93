"""`hil-lab boards`: what there is, what state it is in, and measurements by hand."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from hil_lab.commands.listing import print_list
from hil_lab.commands.upkeep import CARE
from hil_lab.console import print_json, print_table, print_text
from hil_lab.held import held
from hil_lab.inventory import open_board
from hil_lab.recordings import recording
from host.artifact import Artifact
from host.boards.protocol import PROTOCOLS
from host.boards.types import BoardInfo, Measurement, Profile
from host.errors import CallerError
from host.registry import did_you_mean
from host.store import Store


def run(arguments: argparse.Namespace) -> int:
    """Run one of the actions."""
    if arguments.action == "list":
        return print_list(json=arguments.json, store=arguments.store)
    if arguments.action in CARE:
        return CARE[arguments.action](_board(arguments), arguments)
    actions = {"show": _show, "measure": _measure, "profile": _profile, "doctor": _doctor}
    return actions[arguments.action](arguments)


def _show(arguments: argparse.Namespace) -> int:
    with open_board(_board(arguments)) as client:
        info = client.describe()
    if arguments.json:
        print_json(_info(info))
    else:
        rows = [[key, str(value)] for key, value in _info(info).items()]
        print_table(("", ""), rows)
    return 0


def _info(info: BoardInfo) -> dict[str, Any]:
    return {**asdict(info), "fingerprint": dict(info.fingerprint)}


def _doctor(arguments: argparse.Namespace) -> int:
    """Look at a board; status 1 where something is not well."""
    # Here: the other actions need neither torch nor a compiler.
    from hil_lab.welcome import Examiner, Welcome

    name = _board(arguments)
    with open_board(name) as client:
        found = Welcome(name, Examiner(client).doctor())
    if arguments.json:
        print_json(found.to_dict())
    else:
        print_text(found.text())
    return 0 if found.well else 1


def _measure(arguments: argparse.Namespace) -> int:
    if arguments.protocol not in PROTOCOLS:
        hint = did_you_mean(arguments.protocol, PROTOCOLS)
        raise CallerError(f'unknown protocol "{arguments.protocol}"{hint}')
    protocol = PROTOCOLS[arguments.protocol]
    anchor = Artifact.load(Path(arguments.anchor)) if arguments.anchor else None
    name, artifact = _board(arguments), _artifact(arguments)
    with held(name, "measure", silent=arguments.json) as board:
        measurement = board.do(lambda session: session.measure(artifact, protocol, anchor=anchor))
    kept = _keep(measurement, arguments.store)
    if arguments.json:
        print_json(measurement.to_dict())
        return 0
    _print_measurement(measurement)
    if kept:
        print_text(f"kept as {kept}; hil-lab repro {kept} --store {arguments.store}")
    return 0


def _keep(measurement: Measurement, store: str | None) -> str:
    """Keep a measurement where that is asked for, and return its name."""
    if not store:
        return ""
    kept = Store(Path(store))
    try:
        return kept.add_measurement(measurement)
    finally:
        kept.close()


def _print_measurement(measurement: Measurement) -> None:
    interval = measurement.latency_ms
    rows = [
        ["latency", f"{interval.median:.4f} ms [{interval.low:.4f}, {interval.high:.4f}]"],
        ["samples", str(len(measurement.samples_ns))],
        ["energy", _energy(measurement)],
        ["verdict", f"{measurement.verdict} {'; '.join(measurement.reasons)}"],
    ]
    print_table(("", measurement.board), rows)


def _energy(measurement: Measurement) -> str:
    energy, judged = measurement.energy_mj, measurement.energy_verdict
    if energy is None or judged is None:
        return "-"
    error, (verdict, reasons) = measurement.energy_error_mj or 0.0, judged
    return f"{energy:.3f} mJ ± {error:.3f}, {'; '.join((verdict, *reasons))}"


def _profile(arguments: argparse.Namespace) -> int:
    name, artifact = _board(arguments), _artifact(arguments)
    with held(name, "profile", silent=arguments.json) as board:
        profile = board.do(lambda session: session.profile(artifact))
    if arguments.json:
        rows = [{**asdict(k), "median_us": k.median_us} for k in profile.kernels]
        print_json({**asdict(profile), "kernels": rows, "excess_ratio": profile.excess_ratio})
    else:
        _print_profile(profile)
    return 0


def _print_profile(profile: Profile) -> None:
    """Write every kernel call with its share and its events per run, and the sum of all."""
    total_us, repeats = median(profile.sums_ns) / 1e3, len(profile.sums_ns)
    names = list(dict.fromkeys(c.name for k in profile.kernels for c in k.counters))
    cells = []
    for kernel in profile.kernels:
        events = {c.name: f"{c.value / repeats:,.0f}" for c in kernel.counters}
        share = f"{kernel.median_us / total_us:.1%}"
        own = [kernel.layer, kernel.kind, f"{kernel.median_us:.1f}", share]
        cells.append([*own, *(events.get(name, "-") for name in names)])
    print_table(("layer", "kernel", "us", "share", *names), cells)
    if profile.excess_ratio is not None:
        whole_us = median(profile.end_to_end_ns) / 1e3
        print_text(
            f"\nall kernels {total_us:.1f} us, end to end {whole_us:.1f} us, "
            f"apart {profile.excess_ratio:+.1%}"
        )
    for note in profile.notes:
        print_text(f"missing   {note}")


def _board(arguments: argparse.Namespace) -> str:
    if not arguments.board:
        raise CallerError(f"name a board: hil-lab boards {arguments.action} BOARD")
    return recording([arguments.board], arguments.record)[0]


def _artifact(arguments: argparse.Namespace) -> Artifact:
    if not arguments.what:
        raise CallerError(
            f"name an artifact folder: hil-lab boards {arguments.action} BOARD FOLDER"
        )
    return Artifact.load(Path(arguments.what))
