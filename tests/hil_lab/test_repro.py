"""`hil-lab repro`: how a number was measured, measured again, and what does not hold."""

from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from hil_lab.inventory import open_board
from host.artifact import Artifact
from host.boards.protocol import QUICK
from host.boards.types import Measurement
from host.store import Store
from tests.contracts.support import plain_artifact
from tests.hil_lab.commands import hil_lab

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def program(lab: Path, library: bytes) -> Artifact:
    return plain_artifact(lab / "runs" / "a-run" / "reference", library)


@pytest.fixture
def kept(lab: Path, program: Artifact) -> str:
    done = hil_lab(
        "boards", "measure", "sim:rpi4", program.root, "--protocol", "quick",
        "--store", "runs/store.db",
    )  # fmt: skip
    assert done.status == 0, done.err
    return done.out.rpartition("kept as ")[2].partition(";")[0]


@needs_openssl
def test_it_shows_how_a_number_was_measured(kept: str) -> None:
    done = hil_lab("repro", kept[:8])
    assert done.status == 0, done.err
    for words in (
        kept,
        "2, quick: 1 x (at least 30 runs",
        "clock_mhz 1800",
        "runs at 1800 MHz",
        "trusted",
        "numbers, conditions and verdict fit; signed by key ",
        "which nobody certified: boards that are built in make a new key",
        "hil-lab boards measure 'sim:rpi4' runs/a-run/reference --protocol quick",
    ):
        assert words in done.out


def test_the_same_again_is_the_same(kept: str) -> None:
    done = hil_lab("repro", kept, "--run", "--json")
    assert done.status == 0, done.err
    assert done.json["comparison"]["outcome"] == "same"
    assert done.json["comparison"]["ratio"] == pytest.approx(1.0)
    assert "same within 2%" in hil_lab("repro", kept, "--run").out


def test_another_board_of_the_kind_may_answer(kept: str) -> None:
    done = hil_lab("repro", kept, "--run", "--board", "sim:rpi4?seed=3", "--json")
    assert done.status == 0, done.err
    assert done.json["again"] != kept


def test_a_board_that_is_slower_now_does_not_agree(kept: str) -> None:
    board = "sim:rpi4?fault=lying-governor"
    done = hil_lab("repro", kept, "--run", "--board", board, "--json")
    assert done.status == 1
    assert done.json["comparison"]["outcome"] == "slower"
    assert "SLOWER" in hil_lab("repro", kept, "--run", "--board", board).out


def test_another_kind_of_board_is_refused(kept: str) -> None:
    done = hil_lab("repro", kept, "--run", "--board", "local")
    assert done.status == 2 and "local is another kind of board" in done.err


@needs_openssl
def test_a_number_that_was_changed_in_the_store_is_found(lab: Path, kept: str) -> None:
    with sqlite3.connect("runs/store.db") as db:
        (text,) = db.execute("SELECT record FROM measurement WHERE id = ?", [kept]).fetchone()
        record = json.loads(text)
        record["blocks"][0]["samples_ns"][0] -= 1
        db.execute("UPDATE measurement SET record = ? WHERE id = ?", [json.dumps(record), kept])
    db.close()
    done = hil_lab("repro", kept)
    assert done.status == 1
    assert "ALTERED: what is kept is not what the receipt states" in done.out


def test_what_was_invalidated_since_says_so(lab: Path, kept: str) -> None:
    store = Store(Path("runs/store.db"))
    measurement = store.measurement(kept)
    store.quarantine(measurement.board, measurement.fingerprint_digest, "the anchor is +3.0% off")
    store.close()
    assert "invalid: the anchor is +3.0% off" in hil_lab("repro", kept).out


def test_a_program_that_was_not_kept_is_asked_for(
    lab: Path, kept: str, program: Artifact, library: bytes
) -> None:
    program.root.rename(lab / "elsewhere")
    assert "not kept" in hil_lab("repro", kept).out
    done = hil_lab("repro", kept, "--run")
    assert done.status == 2 and "--artifact" in done.err
    assert hil_lab("repro", kept, "--run", "--artifact", lab / "elsewhere").status == 0
    other = plain_artifact(lab / "other", library, structure="other")
    done = hil_lab("repro", kept, "--run", "--artifact", other.root)
    assert done.status == 2 and "another program" in done.err


def test_unknown_and_ambiguous_names_are_errors(lab: Path, kept: str, program: Artifact) -> None:
    assert "holds no measurement m-zzz" in hil_lab("repro", "zzz").err
    _keep_many(program)
    done = hil_lab("repro", "m-")
    assert done.status == 1 and "several measurements" in done.err
    assert hil_lab("repro", kept, "--store", "nowhere.db").status == 2


def test_a_measurement_of_an_earlier_version_is_shown(lab: Path) -> None:
    old = {
        "artifact": "a" * 64, "structure": "s", "board": "pi", "fingerprint": {"kind": "rpi4"},
        "protocol": {
            "number": 1, "mode": "quick", "warmup_runs": 1, "warmup_s": 0, "warmup_cap_s": 1,
            "settle_ratio": 0.1, "runs": 3, "seconds": 0, "cap_s": 1, "half_width_ratio": 1,
            "blocks": 1, "gate_wait_s": 0, "gate_temperature_c": 65, "idle_s": 0,
        },
        "blocks": [{"samples_ns": [5, 5, 6], "warmup_runs": 1, "settled": True}],
        "verdict": "trusted",
    }  # fmt: skip
    store = Store(lab / "runs" / "store.db")
    name = store.add_measurement(Measurement.from_dict(old))
    store.close()
    done = hil_lab("repro", name)
    assert done.status == 0
    assert "it has no receipt" in done.out and "this version measures under 2" in done.out


def _keep_many(program: Artifact) -> None:
    store = Store(Path("runs/store.db"))
    with open_board("sim:rpi4") as client, client.lease("me") as session:
        measured = session.measure(program, QUICK)
    for number in range(3):
        store.add_measurement(replace(measured, structure=f"{number}"))
    store.close()
