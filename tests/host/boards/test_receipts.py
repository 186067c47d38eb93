"""A receipt fits what was measured, and nothing that was changed afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hil_lab.inventory import served
from hil_lab.simboard.board import SimSettings, sim_machine
from host.artifact import Artifact
from host.boards.protocol import QUICK
from host.boards.receipts import check
from host.boards.types import Measurement
from tests.contracts.support import plain_artifact

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


@pytest.fixture
def artifact(library: bytes, tmp_path: Path) -> Artifact:
    return plain_artifact(tmp_path / "artifact", library)


@pytest.fixture
def measured(artifact: Artifact, library: bytes, tmp_path: Path) -> Measurement:
    anchor = plain_artifact(tmp_path / "anchor", library, structure="anchor")
    with served(sim_machine("sim", SimSettings())) as client, client.lease("me") as session:
        return session.measure(artifact, replace(QUICK, blocks=2), anchor=anchor)


def test_the_board_signs_what_it_measured(measured: Measurement) -> None:
    assert check(measured).state == "signed"
    assert "the receipt states other numbers" not in measured.flags
    kept = Measurement.from_dict(json.loads(json.dumps(measured.to_dict())))
    assert check(kept) == check(measured)


def test_the_statement_says_how_it_was_measured(measured: Measurement) -> None:
    assert measured.receipt
    said = json.loads(measured.receipt.statement)
    assert said["artifact"] == measured.artifact
    assert said["anchor"] == measured.anchor
    assert said["fingerprint"] == dict(measured.fingerprint)
    assert said["protocol"] == QUICK.number
    assert (said["verdict"], tuple(said["reasons"])) == (measured.verdict, measured.reasons)
    assert said["plan"]["blocks"] == len(said["conditions"]) == 2
    assert said["energy"]["verdict"] == "suspect"


def _faster(m: Measurement) -> Measurement:
    first, *others = m.blocks
    samples = (first.samples_ns[0] - 1, *first.samples_ns[1:])
    return replace(m, blocks=(replace(first, samples_ns=samples), *others))


def _cooler(m: Measurement) -> Measurement:
    first, *others = m.blocks
    assert first.start
    return replace(
        m, blocks=(replace(first, start=replace(first.start, temperature_c=1.0)), *others)
    )


CHANGES: dict[str, Callable[[Measurement], Measurement]] = {
    "a sample": _faster,
    "a condition": _cooler,
    "the program": lambda m: replace(m, artifact="other"),
    "the board": lambda m: replace(m, fingerprint={"kind": "other"}),
    "the plan": lambda m: replace(m, protocol=replace(m.protocol, runs=1)),
    "the joules": lambda m: replace(m, energy=m.energy and replace(m.energy, active_j=0.1)),
    "the anchor's blocks": lambda m: replace(m, anchors=()),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_is_changed_afterwards_is_found(measured: Measurement, what: str) -> None:
    assert check(CHANGES[what](measured)).state == "altered"


def test_a_changed_verdict_is_found_since_it_is_judged_again(measured: Measurement) -> None:
    assert check(replace(measured, verdict="suspect")).state == "altered"


def test_a_statement_that_was_written_anew_needs_the_key(measured: Measurement) -> None:
    from host.boards.receipts import statement

    changed = _faster(measured)
    assert changed.receipt
    anew = replace(changed.receipt, statement=statement(changed, changed.receipt.statement))
    assert check(replace(changed, receipt=anew)).state == "forged"
    assert check(replace(changed, receipt=replace(anew, signature="AAAA"))).state == "forged"
    assert check(replace(changed, receipt=replace(anew, key="AAAA"))).state == "forged"


def test_without_a_receipt_or_a_signature_nothing_is_claimed(measured: Measurement) -> None:
    assert measured.receipt
    assert check(replace(measured, receipt=None)).state == "unsigned"
    bare = replace(measured.receipt, signature="", key="", unsigned="no openssl")
    assert check(replace(measured, receipt=bare)).why == "no openssl"


def test_receipts_of_two_boards_do_not_make_two_measurements(measured: Measurement) -> None:
    assert replace(measured, receipt=None).identity == measured.identity
