"""`hil-lab repro`: how a number was measured, and whether measuring it again gives it again."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hil_lab.certified import certified_key
from hil_lab.console import print_json, print_table, print_text
from hil_lab.held import held
from hil_lab.programs import given_program, kept_by_digest, kept_program
from host.artifact import Artifact
from host.boards.compare import Comparison, compare
from host.boards.protocol import PROTOCOL, PROTOCOLS
from host.boards.receipts import Check, check
from host.boards.session import BoardSession
from host.boards.types import Conditions, Measurement
from host.errors import CallerError
from host.stats import Interval
from host.store import Store


@dataclass(frozen=True)
class Kept:
    """A measurement of the store and what is known of it; `artifact` is where its program lies."""

    name: str
    measurement: Measurement
    measured_at: str
    receipt: Check
    invalid: str
    artifact: Artifact | None


def run(arguments: argparse.Namespace) -> int:
    """Show how a number was measured; with --run, measure it again and compare."""
    path = Path(arguments.store)
    if not path.is_file():
        raise CallerError(f"{path}: no such store; name one with --store")
    store = Store(path)
    try:
        kept = _kept(store, arguments)
        again = _again(kept, store, arguments) if arguments.run else None
    finally:
        store.close()
    found = None if again is None else compare(kept.measurement, again[1])
    if arguments.json:
        print_json(_json(kept, again, found))
    else:
        _print(kept, again, found)
    return _status(kept, found)


def _kept(store: Store, arguments: argparse.Namespace) -> Kept:
    name = store.find(arguments.id)
    measurement = store.measurement(name)
    artifact = (
        given_program(Path(arguments.artifact), measurement)
        if arguments.artifact
        else kept_program(store.path.parent, measurement)
    )
    return Kept(
        name=name,
        measurement=measurement,
        measured_at=store.measured_at(name),
        receipt=check(measurement, certified_key(measurement.board)),
        invalid=store.invalid([name]).get(name, ""),
        artifact=artifact,
    )


def _again(kept: Kept, store: Store, arguments: argparse.Namespace) -> tuple[str, Measurement]:
    """Measure the program under the same plan; returns the new measurement with its name."""
    before = kept.measurement
    if kept.artifact is None:
        raise CallerError(
            f"the program of {kept.name} was not kept: name a folder that holds it with --artifact"
        )
    anchor = kept_by_digest(store.path.parent, before.anchor) if before.anchor else None
    again = partial(
        BoardSession.measure,
        artifact=kept.artifact,
        protocol=before.protocol,
        synthetic_weights=True,
        anchor=anchor,
    )
    with held(arguments.board or before.board, "repro", silent=arguments.json) as board:
        if board.info.kind != before.fingerprint.get("kind"):
            raise CallerError(
                f"{kept.name} was measured on {before.fingerprint.get('kind')}, "
                f"{board.info.kind} is another kind of board"
            )
        after = board.do(again)
    return store.add_measurement(after), after


def _status(kept: Kept, found: Comparison | None) -> int:
    return 0 if kept.receipt.honest and (found is None or found.outcome == "same") else 1


def command(kept: Kept) -> str:
    """Return the command that measures the same again by hand, '' where there is none."""
    plan = kept.measurement.protocol
    if kept.artifact is None or PROTOCOLS.get(plan.mode) != plan:
        return ""
    board = kept.measurement.board
    return f"hil-lab boards measure '{board}' {kept.artifact.root} --protocol {plan.mode}"


def _json(
    kept: Kept, again: tuple[str, Measurement] | None, found: Comparison | None
) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": kept.name,
        "measured_at": kept.measured_at,
        "measurement": kept.measurement.to_dict(),
        "receipt": asdict(kept.receipt),
        "invalid": kept.invalid,
        "artifact": str(kept.artifact.root) if kept.artifact else None,
        "command": command(kept),
    }
    if again and found:
        shown |= {"again": again[0], "comparison": asdict(found)}
    return shown


def _print(kept: Kept, again: tuple[str, Measurement] | None, found: Comparison | None) -> None:
    print_table(("", kept.name), _rows(kept))
    if again is None or found is None:
        return
    before, after = kept.measurement.latency_ms, again[1].latency_ms
    verdict = {
        "same": f"same within {found.threshold_ratio:.0%}",
        "unclear": "cannot tell: too noisy; measure both with boards measure --protocol compare",
    }.get(found.outcome, found.outcome.upper())
    print_text(
        f"\n{_ms(before)} then, {_ms(after)} now ({again[0]}, {again[1].verdict}): "
        f"{found.ratio - 1:+.1%}, p = {found.p:.2g}: {verdict}"
    )


def _rows(kept: Kept) -> list[list[str]]:
    m, plan = kept.measurement, kept.measurement.protocol
    old = "" if plan.number == PROTOCOL else f" (this version measures under {PROTOCOL})"
    rows = [
        ["measured", kept.measured_at],
        ["program", f"{m.artifact[:12]}  {kept.artifact.root if kept.artifact else 'not kept'}"],
        ["board", f"{m.board}, {_pairs(m)}"],
        ["protocol", f"{plan.number}{old}, {plan.mode}: {_plan(m)}"],
        ["latency", f"{_ms(m.latency_ms)}, {len(m.samples_ns)} runs"],
        *_energy(m),
        ["verdict", "; ".join((m.verdict, *m.reasons))],
        *([["since then", f"invalid: {kept.invalid}"]] if kept.invalid else []),
        *([["flags", "; ".join(m.flags)]] if m.flags else []),
        *_conditions(m),
        ["receipt", _receipt(kept.receipt)],
        ["again", command(kept) or f"hil-lab repro {kept.name} --run"],
    ]
    return [[label, text] for label, text in rows]


def _plan(m: Measurement) -> str:
    plan = m.protocol
    anchored = f", anchor {m.anchor[:12]}" if m.anchor else ""
    return (
        f"{plan.blocks} x (at least {plan.runs} runs and {plan.seconds:g} s, at most "
        f"{plan.cap_s:g} s), below {plan.gate_temperature_c:g} C{anchored}"
    )


def _energy(m: Measurement) -> list[list[str]]:
    if m.energy is None or m.energy_mj is None or m.energy_verdict is None:
        return []
    net = "" if m.net_energy_mj is None else f", {m.net_energy_mj:.4g} mJ above idle"
    verdict, reasons = m.energy_verdict
    said = "; ".join((verdict, *reasons))
    bound = f"{m.energy_mj:.4g} mJ ± {m.energy_error_mj or 0.0:.2g}"
    return [["energy", f"{bound}{net} ({m.energy.meter}): {said}"]]


def _conditions(m: Measurement) -> list[list[str]]:
    return [
        [f"block {number}", f"{_state(block.start)} to {_state(block.end)}"]
        for number, block in enumerate(m.blocks, 1)
        if block.start and block.end
    ]


def _state(conditions: Conditions | None) -> str:
    if conditions is None:
        return "unknown"
    known = (
        (conditions.temperature_c, "{:.1f} C"),
        (conditions.clock_mhz, "says {:.0f} MHz"),
        (conditions.effective_mhz, "runs at {:.0f} MHz"),
        (conditions.throttle_bits, "bits {:#x}"),
    )
    return ", ".join(text.format(value) for value, text in known if value is not None)


def _receipt(found: Check) -> str:
    if found.state != "signed":
        return found.why if found.state == "unsigned" else f"{found.state.upper()}: {found.why}"
    whose = {
        "certified": f"{found.key}, which the lab certified",
        "another": f"{found.key}, ANOTHER KEY than the board's: {found.why}",
    }.get(found.signer, f"{found.key}, which nobody certified: {found.why}")
    return f"numbers, conditions and verdict fit; signed by key {whose}"


def _pairs(m: Measurement) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(m.fingerprint.items()))


def _ms(interval: Interval) -> str:
    return f"{interval.median:.4f} ms [{interval.low:.4f}, {interval.high:.4f}]"
