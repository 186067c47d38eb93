"""Datasets end to end over simulated boards: complete, nothing twice, read by what people use."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from hil_lab.dataset import open_dataset
from hil_lab.simboard import faults
from host.boards import drift
from host.dataset.table import kernels_of, learned
from tests.hil_lab import tiny
from tests.hil_lab.commands import Done, hil_lab

pytestmark = [pytest.mark.tvm, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
RECIPE = """
count = 10
protocol = "quick"
board = ["sim:rpi4", "sim:rpi4-2"]
[kernels]
kinds = ["dense"]
formats = ["fp32", "int8"]
channels = [8, 64]
size = [1, 16]
"""


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> object:
    made = tmp_path_factory.mktemp("datasets")
    (made / "small.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        for name, value in tiny.environment(tmp_path_factory).items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="module")
def collected(folder: Path) -> Done:
    done = hil_lab("dataset", "collect", "small.toml", "--json")
    assert done.status == 0, done.err
    return done


@pytest.fixture(scope="module")
def exported(collected: Done, folder: Path) -> Path:
    done = hil_lab("dataset", "export", "small", "-o", "small.parquet", "-o", "small.csv", "--json")
    assert done.status == 0, done.err
    assert [Path(f).name for f in done.json["files"]] == ["small.parquet", "small.csv", "small.md"]
    return folder / "small.parquet"


def test_every_program_is_measured_once_on_one_of_the_boards(
    collected: Done, exported: Path
) -> None:
    assert collected.json["measured"] == 10
    frame = pd.read_parquet(exported)
    assert sorted(frame["number"]) == list(range(10))
    assert frame["structure"].is_unique
    assert frame.groupby("board").size().to_dict() == {"sim:rpi4": 5, "sim:rpi4-2": 5}
    assert (frame["verdict"] == "trusted").all()


def test_collecting_again_measures_nothing_and_more_may_be_asked_for(collected: Done) -> None:
    before = open_dataset("small").table().rows
    assert hil_lab("dataset", "collect", "small.toml").status == 0
    assert open_dataset("small").table().rows == before
    more = hil_lab("dataset", "collect", "small.toml", "--count", 12, "--json")
    assert more.json["measured"] == 12
    assert open_dataset("small").table().rows[:10] == before


def test_the_file_says_what_its_columns_are(exported: Path) -> None:
    schema = pq.read_schema(exported)
    assert schema.field("latency_ms").metadata[b"unit"] == b"ms"
    sheet = json.loads(schema.metadata[b"hil-lab"])
    assert sheet["boards"] == {"sim:rpi4": 5, "sim:rpi4-2": 5}
    assert sheet["recipe"]["kernels"]["kinds"] == ["dense"] and sheet["versions"]["hil-lab"]
    names = [column["name"] for column in sheet["columns"]]
    assert names == schema.names
    text = exported.with_suffix(".md").read_text()
    assert all(f"`{name}`" in text for name in names)


def test_pandas_duckdb_and_csv_read_the_same(exported: Path) -> None:
    frame = pd.read_parquet(exported)
    frame.to_parquet("again.parquet")
    assert pq.read_table("again.parquet").to_pylist() == pq.read_table(exported).to_pylist()
    ((median,),) = duckdb.sql(f"SELECT median(latency_ms) FROM '{exported}'").fetchall()
    assert median == pytest.approx(frame["latency_ms"].median())
    text = pd.read_csv(exported.with_suffix(".csv"))
    assert text["latency_ms"].tolist() == pytest.approx(frame["latency_ms"].tolist())
    assert json.loads(text["samples_ns"][0]) == list(frame["samples_ns"][0])


def test_kernels_and_samples_add_up(exported: Path) -> None:
    for row in pq.read_table(exported).to_pylist():
        assert row["latency_low_ms"] <= row["latency_ms"] <= row["latency_high_ms"]
        assert len(row["samples_ns"]) >= 30
        assert sum(k["median_us"] for k in row["kernels"]) == pytest.approx(
            row["kernels_us"], rel=0.05
        )
        assert row["energy_mj"] > 0 and row["counter_l2d_refill"] >= 0
        assert row["macs"] == sum(k["macs"] for k in row["kernels"])


def test_a_surrogate_learns_from_the_file(exported: Path) -> None:
    rows = pq.read_table(exported).to_pylist()
    model = learned(rows)
    told = model([kernels_of(row) for row in rows]).ms
    assert told == pytest.approx([row["latency_ms"] for row in rows], rel=1e-6)


def test_all_boards_measure_every_program_where_that_is_asked(folder: Path) -> None:
    asked = ["--set", "name=both", "--set", "boards=all", "--count", 3]
    assert hil_lab("dataset", "collect", "small.toml", *asked).status == 0
    rows = open_dataset("both").table().rows
    assert [(row["number"], row["board"]) for row in rows] == [
        (number, board) for number in range(3) for board in ("sim:rpi4", "sim:rpi4-2")
    ]


def test_a_program_that_fails_is_a_row_and_the_board_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hil_lab.dataset.watch_of", lambda *_: None)  # its anchor would crash too
    done = hil_lab(
        "dataset", "collect", "small.toml", "--board", "sim:rpi4?fault=crash",
        "--set", "name=crashing", "--count", 2, "--json",
    )  # fmt: skip
    assert done.status == 0 and done.json["verdicts"] == {"failed": 2}
    rows = open_dataset("crashing").table().rows
    assert all("latency_ms" not in row or row["latency_ms"] is None for row in rows)
    assert all(row["reasons"] for row in rows)


def test_a_board_that_measures_nothing_valid_hands_on_its_programs(folder: Path) -> None:
    done = hil_lab(
        "dataset", "collect", "small.toml", "--board", "sim:rpi4?fault=throttle",
        "--board", "sim:rpi4-2", "--set", "name=handed", "--count", 3, "--json",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert {row["board"] for row in open_dataset("handed").table().rows} == {"sim:rpi4-2"}


@pytest.fixture
def drifting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boards are good for their baseline and one program; a look every three programs."""
    monkeypatch.setattr(faults, "DRIFT_AFTER", 2)
    monkeypatch.setattr(drift, "JOBS", 3)


def test_rows_of_a_board_that_drifts_are_measured_again_by_another(
    folder: Path, drifting: None
) -> None:
    done = hil_lab(
        "dataset", "collect", "small.toml", "--board", "sim:rpi4?fault=drift",
        "--board", "sim:rpi4-2", "--set", "name=drifting",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "dropped  sim:rpi4?fault=drift is quarantined: the anchor is +3.0% off" in done.err
    rows = open_dataset("drifting").table().rows
    assert [row["number"] for row in rows] == list(range(10))
    assert {row["board"] for row in rows} == {"sim:rpi4-2"}


def test_a_lone_board_that_drifts_ends_it_and_a_mended_one_measures_its_rows_again(
    folder: Path, drifting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("dataset", "collect", "small.toml", "--set", "name=lone", "--count", 5)
    done = hil_lab(*command, "--board", "sim:rpi4?fault=drift")
    assert done.status == 1
    assert "no board is left: sim:rpi4?fault=drift is quarantined" in done.err
    assert "collect again" in done.err
    assert open_dataset("lone").table().rows == ()
    monkeypatch.setattr(faults, "DRIFT_AFTER", 10**6)
    again = hil_lab(*command, "--board", "sim:rpi4?fault=drift", "--json")
    assert again.status == 0, again.err
    assert again.json["measured"] == 5 and again.json["verdicts"] == {"trusted": 5}


def test_what_was_measured_after_the_last_look_is_looked_at_in_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "DRIFT_AFTER", 2)  # no look is due before the end
    done = hil_lab(
        "dataset", "collect", "small.toml", "--board", "sim:rpi4?fault=drift",
        "--set", "name=last", "--count", 3,
    )  # fmt: skip
    assert done.status == 1 and "is quarantined" in done.err
    assert open_dataset("last").table().rows == ()


def test_uncertain_programs_of_a_network_come_in_rounds(folder: Path) -> None:
    (folder / "layers.toml").write_text(
        'what = "layers"\nmodel = "digits-vit"\nsample = "uncertain"\ncount = 12\n'
        'protocol = "quick"\nboard = ["sim:rpi4", "sim:rpi4-2"]\n'
    )
    done = hil_lab("dataset", "collect", "layers.toml", "--json")
    assert done.status == 0 and done.json["measured"] == 12, done.err
    kinds = {row["layer_kind"] for row in open_dataset("layers").table().rows}
    assert "dense" in kinds


def test_policies_are_collected_whole(folder: Path) -> None:
    (folder / "whole.toml").write_text(
        'what = "policies"\nmodel = "digits-cnn"\nsample = "grid"\ncount = 2\nprotocol = "quick"\n'
    )
    assert hil_lab("dataset", "collect", "whole.toml").status == 0
    rows = open_dataset("whole").table().rows
    assert {row["model"] for row in rows} == {"digits-cnn"}
    assert len({row["policy"] for row in rows}) == 2


def test_a_killed_collection_goes_on_where_it_was(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "hil_lab.cli", "dataset", "collect", "small.toml"]
    command += ["--set", "name=killed", "--json"]
    store = folder / "datasets/killed/store.db"
    for rows in (2, 5):
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE)
        while observed(store) < rows:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = hil_lab("dataset", "collect", "small.toml", "--set", "name=killed", "--json")
    assert done.json["measured"] == 10, done.err
    compared = ("number", "structure", "latency_ms", "board")
    once, twice = (
        [[row[name] for name in compared] for row in open_dataset(name).table().rows[:10]]
        for name in ("small", "killed")
    )
    assert once == twice


def observed(store: Path) -> int:
    if not store.is_file():
        return 0
    db = sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=30)
    try:
        return int(db.execute("SELECT count(*) FROM observation").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        db.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["collect", "absent.toml"], "no such recipe"),
        (["collect", "small.toml", "--set", "kernels.kinds=['dens']"], 'did you mean "dense"'),
        (["collect", "small.toml", "--set", "sample=randm"], 'did you mean "random"'),
        (["collect", "small.toml", "--set", "seed=2"], "begun with another seed"),
        (["collect", "small.toml", "--set", "what=layers"], "must name the network"),
        (["collect", "small.toml", "--set", "cont=2"], 'did you mean "count"'),
        (["export", "smal", "-o", "x.csv"], 'did you mean "small"'),
        (["export", "small"], "-o NAME.parquet"),
        (["export", "small", "-o", "x.parqet"], 'did you mean ".parquet"'),
    ],
)
def test_bad_input_gets_one_sentence(collected: Done, arguments: list[str], said: str) -> None:
    done = hil_lab("dataset", *arguments)
    assert done.status == 2
    assert said in done.err and len(done.err.splitlines()) == 1
