"""A new board's first hour: is it well and cool, how fast and how quiet is it; and signed.

The certificate says what the board was on its first day: a board that differs from it later has
changed, and not the program.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from firmware_setup.ca.lab import LabCA
from hil_lab.baselines import baseline_path
from hil_lab.inventory import open_board
from host.artifact import Artifact
from host.boards.client import BoardClient
from host.boards.protocol import QUICK, REPORT, MeasureProtocol
from host.boards.receipts import check
from host.boards.types import BoardInfo, Conditions, Measurement
from host.canonical import canonical_json
from host.dataset.anchor import ANCHOR, anchor_program
from host.errors import BoardError, StoreError
from host.lower.targets import target_of

BURN_IN_S = 600.0
LEAST_FREE_BYTES = 300 << 20
HOT_C = 75.0
_THROTTLE_NOW = 0xF


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `remedy` says what to do where it is not well."""

    what: str
    said: str
    well: bool = True
    remedy: str = ""


@dataclass(frozen=True)
class Welcome:
    """What was found, and the certificate's file where the board was measured."""

    board: str
    findings: tuple[Finding, ...]
    certificate: str = ""

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.well for finding in self.findings)

    def text(self) -> str:
        """Return the findings for a person, a line each."""
        lines = [
            f"{'ok      ' if f.well else 'BAD     '} {f.what}: {f.said}"
            + (f"; {f.remedy}" if f.remedy and not f.well else "")
            for f in self.findings
        ]
        if self.certificate:
            lines.append(f"baseline {self.certificate}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON."""
        findings = [asdict(finding) for finding in self.findings]
        return {
            "board": self.board,
            "well": self.well,
            "findings": findings,
            "certificate": self.certificate,
        }


@dataclass
class Examiner:
    """Looks at one board; `plan` is what the anchor is measured under."""

    client: BoardClient
    plan: MeasureProtocol = REPORT
    burn_in_s: float = BURN_IN_S
    clock_s: Callable[[], float] = time.monotonic

    def doctor(self) -> tuple[Finding, ...]:
        """Return what can be seen without running anything."""
        start = self.clock_s()
        info = self.client.describe()
        answered_ms = 1e3 * (self.clock_s() - start)
        now = next(iter(self.client.telemetry(0.1, 1)))
        return (
            Finding("agent", f"{info.agent_version}, answers in {answered_ms:.0f} ms"),
            *_state(info),
            *_conditions(now),
        )

    def anchor(self) -> tuple[Measurement, tuple[Finding, ...]]:
        """Burn the board in on the anchor, then measure that; raises BoardError."""
        info = self.client.describe()
        with tempfile.TemporaryDirectory(prefix="hil-anchor-") as folder:
            artifact = anchor_program(target_of(info.arch), Path(folder))
            with self.client.lease("baseline") as session:
                found = tuple(self._burn_in(session, artifact))
                measurement = session.measure(artifact, self.plan, synthetic_weights=True)
        latency = measurement.latency_ms
        said = (
            f"{latency.median:.3f} ms [{latency.low:.3f}, {latency.high:.3f}], noise "
            f"{100 * measurement.noise_ratio:.1f} %, {measurement.verdict}"
        )
        receipt = check(measurement)
        signed = receipt.state == "signed"
        whose = f"signed by key {receipt.key}, which the baseline certifies"
        # A brief baseline is for machines whose time says nothing.
        trusted = measurement.verdict != "invalid" or self.plan is QUICK
        return measurement, (
            *found,
            Finding("anchor", said, trusted, "; ".join(measurement.reasons)),
            Finding("receipts", whose if signed else receipt.why),
        )

    def _burn_in(self, session: Any, artifact: Artifact) -> Iterator[Finding]:
        if not self.burn_in_s:
            return
        until, hottest, bits = self.clock_s() + self.burn_in_s, 0.0, 0
        plan = replace(QUICK, mode="burn-in", seconds=10.0, cap_s=15.0, gate_wait_s=0.0)
        while self.clock_s() < until:
            for block in session.measure(artifact, plan, synthetic_weights=True).blocks:
                if block.end:
                    hottest = max(hottest, block.end.temperature_c or 0.0)
                    bits |= block.end.throttle_bits or 0
        throttled = bool(bits & _THROTTLE_NOW)
        said = f"{self.burn_in_s / 60:.0f} min of full load, {hottest:.0f} C"
        yield Finding(
            "burn-in",
            said + (", throttled" if throttled else ""),
            not throttled and hottest < HOT_C,
            "give it a heat sink or a fan",
        )


def welcome(
    name: str, ca: LabCA, folder: Path, burn_in_s: float = BURN_IN_S, *, quick: bool = False
) -> Welcome:
    """Look at a board, burn it in, measure its anchor, and write its signed certificate.

    `quick` leaves the burn-in out and measures briefly: for machines that are no boards.
    """
    with open_board(name) as client:
        plan = QUICK if quick else REPORT
        examiner = Examiner(client, plan, 0.0 if quick else burn_in_s)
        try:
            findings = examiner.doctor()
            measurement, measured = examiner.anchor()
        except BoardError as e:
            return Welcome(name, (Finding("board", str(e), False),))
        info = client.describe()
    certificate = baseline(info, measurement)
    path = baseline_path(name, folder)
    _write(path, {**certificate, "signature": ca.sign(canonical_json(certificate).encode())})
    return Welcome(name, (*findings, *measured), str(path))


def baseline(info: BoardInfo, measurement: Measurement) -> dict[str, Any]:
    """Return what a board was: its fingerprint, and the anchor's time, noise, clock and watts.

    The key that signed the anchor's receipt is from then on the board's.
    """
    first, last = measurement.blocks[0].start, measurement.blocks[-1].end
    latency, energy, receipt = measurement.latency_ms, measurement.energy, measurement.receipt
    return {
        "board": info.name,
        "kind": info.kind,
        "fingerprint": dict(info.fingerprint),
        "agent_version": info.agent_version,
        "anchor": {"layer": asdict(ANCHOR), "structure": measurement.structure},
        "latency_ms": [latency.median, latency.low, latency.high],
        "noise_ratio": measurement.noise_ratio,
        "clock_mhz": first.clock_mhz if first else None,
        "temperature_c": [x.temperature_c if x else None for x in (first, last)],
        "idle_w": energy.idle_w if energy else None,
        "active_w": energy.active_j / energy.active_s if energy and energy.active_s else None,
        "protocol": asdict(measurement.protocol),
        "receipt_key": receipt.key if receipt and check(measurement).state == "signed" else "",
        "verdict": measurement.verdict,
        "reasons": list(measurement.reasons),
    }


def _state(info: BoardInfo) -> Iterator[Finding]:
    well = info.state != "quarantined"
    remedy = f"{info.reason}: mend it, then hil-lab boards reset {info.name}"
    yield Finding("state", info.state, well, remedy)
    yield Finding("can", ", ".join(info.capabilities))


def _conditions(now: Conditions) -> Iterator[Finding]:
    bits = now.throttle_bits
    if bits is not None:
        remedy = "use a supply of 3 A, and cool it"
        yield Finding("throttling", f"bits {bits:#x}", not bits & _THROTTLE_NOW, remedy)
    if now.temperature_c is not None:
        cool = now.temperature_c < HOT_C
        yield Finding("temperature", f"{now.temperature_c:.0f} C", cool, "let it cool down")
    if now.clock_mhz is not None:
        steady = now.governor in ("", "performance")
        said = f"{now.clock_mhz:.0f} MHz, governor {now.governor or 'unknown'}"
        yield Finding("clock", said, steady, "hil-lab provision sets it to performance")
    if now.free_memory_bytes is not None:
        enough = now.free_memory_bytes >= LEAST_FREE_BYTES
        said = f"{now.free_memory_bytes >> 20} MiB are free"
        yield Finding("memory", said, enough, "end what else runs there")


def _write(path: Path, value: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(value, indent=1) + "\n")
    except OSError as e:
        raise StoreError(f"cannot write {path}: {e.strerror}") from e
