"""Whose key signed a receipt: the one that the lab certified, another one, or nobody's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from firmware_setup.ca.lab import LabCA
from hil_lab.certified import certified_key
from hil_lab.inventory import served
from hil_lab.simboard.board import SimSettings, sim_machine
from hil_lab.welcome import baseline
from host.artifact import Artifact
from host.boards.protocol import QUICK
from host.boards.receipts import check
from host.boards.types import BoardInfo, Measurement
from host.canonical import canonical_json
from host.errors import StoreError
from host.store import Store
from tests.contracts.support import plain_artifact
from tests.hil_lab.commands import hil_lab

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")

BOARD = "pi4-desk"
BASELINE = Path(f"{BOARD}-baseline.json")


@dataclass
class Lab:
    """An authority, and a board that it provisioned."""

    ca: LabCA
    artifact: Artifact
    state: Path

    def measured(self, state: Path | None = None) -> tuple[BoardInfo, Measurement]:
        """Measure on the board, or on one of its name with another state."""
        machine = sim_machine(BOARD, SimSettings())
        with served(machine, state_dir=state or self.state) as client, client.lease("me") as own:
            return own.info, own.measure(self.artifact, QUICK)

    def certify(self, **changes: Any) -> None:
        """Write the board's signed baseline."""
        kept = {**baseline(*self.measured()), **changes}
        signature = self.ca.sign(canonical_json(kept).encode())
        BASELINE.write_text(json.dumps({**kept, "signature": signature}))


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: bytes) -> Lab:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    ca = LabCA(tmp_path / ".config" / "hil-lab" / "ca")
    ca.init()
    return Lab(ca, plain_artifact(tmp_path / "runs" / "artifact", library), tmp_path / "state")


def test_the_key_of_the_baseline_is_certified(lab: Lab) -> None:
    lab.certify()
    found = check(lab.measured()[1], certified_key(BOARD))
    assert (found.state, found.signer, found.why) == ("signed", "certified", "")
    assert found.honest


def test_another_key_of_the_same_name_is_found_out(lab: Lab, tmp_path: Path) -> None:
    lab.certify()
    found = check(lab.measured(tmp_path / "impostor")[1], certified_key(BOARD))
    assert (found.state, found.signer) == ("signed", "another")
    assert found.why.startswith("the lab certified ") and not found.honest


def _tamper(lab: Lab) -> None:
    lab.certify()
    kept = json.loads(BASELINE.read_text())
    BASELINE.write_text(json.dumps({**kept, "receipt_key": "c3R1ZmY="}))


def _lose_authority(lab: Lab) -> None:
    lab.certify()
    lab.ca.certificate.unlink()


UNKNOWN: dict[str, Callable[[Lab], None]] = {
    "there is no pi4-desk-baseline.json here": lambda lab: None,
    "is not signed by": _tamper,
    "ca.crt is not here": _lose_authority,
    "is of another board, pi4-02": lambda lab: lab.certify(board="pi4-02"),
    "names no key; provision again": lambda lab: lab.certify(receipt_key=""),
}


@pytest.mark.parametrize("why", UNKNOWN)
def test_a_key_that_nobody_certified_says_why(lab: Lab, why: str) -> None:
    UNKNOWN[why](lab)
    found = check(lab.measured()[1], certified_key(BOARD))
    assert (found.state, found.signer) == ("signed", "unknown") and found.honest
    assert why in found.why


def test_an_authority_that_is_none_is_one_sentence(lab: Lab) -> None:
    lab.certify()
    lab.ca.certificate.write_text("nonsense")
    with pytest.raises(StoreError, match="cannot be read as an authority's certificate"):
        certified_key(BOARD)


def test_repro_says_whose_key_it_was(lab: Lab, tmp_path: Path) -> None:
    lab.certify()
    store = Store(Path("runs/store.db"))
    own = store.add_measurement(lab.measured()[1])
    store.close()
    done = hil_lab("repro", own)
    assert done.status == 0 and ", which the lab certified" in done.out
    other = Store(Path("runs/other.db"))
    false = other.add_measurement(lab.measured(tmp_path / "impostor")[1])
    other.close()
    done = hil_lab("repro", false, "--store", "runs/other.db")
    assert done.status == 1 and "ANOTHER KEY than the board's" in done.out
    shown = hil_lab("repro", false, "--store", "runs/other.db", "--json").json
    assert shown["receipt"]["signer"] == "another"
