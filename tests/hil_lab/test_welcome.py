"""What a board's first hour finds, and the certificate that says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from firmware_setup.ca.lab import LabCA
from hil_lab.inventory import open_board
from hil_lab.welcome import Examiner, welcome
from host.boards.protocol import QUICK
from host.canonical import canonical_json
from tests.hil_lab.commands import hil_lab

pytestmark = pytest.mark.tvm


@pytest.fixture
def ca(tmp_path: Path) -> LabCA:
    made = LabCA(tmp_path / "ca")
    made.init()
    return made


def test_a_good_board_gets_a_certificate_that_the_lab_signed(ca: LabCA, tmp_path: Path) -> None:
    found = welcome("sim:rpi4", ca, tmp_path, quick=True)
    assert found.well and found.certificate == str(tmp_path / "sim:rpi4-baseline.json")
    kept = json.loads(Path(found.certificate).read_text())
    signature = kept.pop("signature")
    assert ca.signed(canonical_json(kept).encode(), signature)
    assert kept["latency_ms"][0] > 0 and kept["noise_ratio"] < 0.05
    assert kept["verdict"] == "trusted" and kept["active_w"] > 2
    if shutil.which("openssl"):
        assert kept["receipt_key"]
        assert "which the baseline certifies" in found.text()
    kept["latency_ms"][0] *= 0.9
    assert not ca.signed(canonical_json(kept).encode(), signature)


def test_a_board_that_throttles_is_told_how_to_be_mended(ca: LabCA, tmp_path: Path) -> None:
    found = welcome("sim:rpi4?fault=throttle", ca, tmp_path, quick=True)
    assert not found.well
    assert "BAD      throttling" in found.text() and "use a supply of 3 A" in found.text()


def test_burning_in_says_how_hot_it_got() -> None:
    with open_board("sim:rpi4") as client:
        seconds = iter(range(0, 10_000, 100))
        examiner = Examiner(client, QUICK, 250.0, lambda: float(next(seconds)))
        _, findings = examiner.anchor()
    burn_in = next(f for f in findings if f.what == "burn-in")
    assert burn_in.well and " C" in burn_in.said


def test_the_doctor_looks_without_running_anything() -> None:
    done = hil_lab("boards", "doctor", "sim:rpi4", "--json")
    assert done.status == 0 and done.json["well"]
    assert {"agent", "state", "temperature"} <= {f["what"] for f in done.json["findings"]}
    sick = hil_lab("boards", "doctor", "sim:rpi4?fault=throttle")
    assert sick.status == 1 and "BAD" in sick.out
