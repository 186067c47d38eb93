"""The commands of a rack, on simulated boards in their own processes."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hil_lab.choice import at_most
from hil_lab.simboard.process import SimProcess, sim_process
from host.boards.client import BoardClient
from host.boards.types import Block
from host.errors import CallerError
from host.store import Store
from tests.hil_lab.commands import hil_lab
from tests.host.test_store import measurement

SUPPLY = """
[boards.sim-01.supply]
kind = "command"
on = "touch on"
off = "touch off"
"""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    with sim_process("sim:rpi4-3", "sim-01", tmp_path_factory.mktemp("state")) as process:
        yield process


@pytest.fixture(autouse=True)
def inventory(board: SimProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entry = f'kind = "sim:rpi4"\naddress = "{board.address}"\ntags = ["rack1"]\n'
    dead = '[boards.dead]\nkind = "sim:rpi4"\naddress = "127.0.0.1:1"\ntags = ["rack1"]\n'
    Path("boards.toml").write_text(f"{dead}[boards.sim-01]\n{entry}{SUPPLY}")


@pytest.fixture
def client(board: SimProcess) -> Iterator[BoardClient]:
    with BoardClient(board.address) as found:
        yield found


def test_the_list_has_lease_queue_conditions_and_tags(client: BoardClient) -> None:
    with client.lease("ann@ws3"):
        rows = {row["name"]: row for row in hil_lab("boards", "list", "--json").json}
        text = hil_lab("boards", "list").out
    row = rows["sim-01"]
    assert (row["state"], row["lease"], row["queue"], row["tags"]) == (
        "leased", "ann@ws3", 0, ["rack1"],
    )  # fmt: skip
    assert row["clock_mhz"] == 1800.0 and 20 < row["temperature_c"] < 80 and row["held_s"] >= 0
    assert rows["dead"]["state"] == "unreachable" and "no answer" in rows["dead"]["why"]
    assert "TEMP" in text and "1800 MHz" in text and "rack1" in text


def test_the_list_says_about_when_a_held_board_is_free(client: BoardClient) -> None:
    with client.lease("earlier"):
        pass
    with client.lease("ann@ws3"):
        rows = {row["name"]: row for row in hil_lab("boards", "list", "--json").json}
        text = hil_lab("boards", "list").out
    assert 0 <= rows["sim-01"]["wait_s"] < 60
    assert "about " in text and "FREE IN" in text


def test_the_list_shows_what_the_lab_knows_of_drift_and_noise(client: BoardClient) -> None:
    info = client.describe()
    measured = replace(measurement(), board="sim-01", fingerprint=info.fingerprint)
    store = Store(Path("lab.db"))
    store.add_baseline(measured)
    late = Block(samples_ns=(1030, 1031, 1032), warmup_runs=10, settled=True)
    store.add_measurement(replace(measured, blocks=(late,)))
    store.add_measurement(replace(measured, blocks=(late,), structure="another program"))
    store.quarantine("sim-01", info.fingerprint_digest, "the anchor is +3.0% off")
    store.close()
    done = hil_lab("boards", "list", "--store", "lab.db", "--json")
    row = {row["name"]: row for row in done.json}["sim-01"]
    assert row["drift_ratio"] == pytest.approx(1031 / 1001 - 1)
    assert row["noise_ratio"] == pytest.approx(0.00079, rel=0.01)
    assert row["throttling"] == [] and row["looked_at"].endswith("Z")
    assert row["why"] == "at the last look the anchor is +3.0% off"
    assert "+3.0%" in hil_lab("boards", "list", "--store", "lab.db").out
    assert "no such store" in hil_lab("boards", "list", "--store", "x.db").err


def test_without_a_look_the_noise_is_the_baselines() -> None:
    Path("sim-01-baseline.json").write_text(json.dumps({"noise_ratio": 0.004}))
    row = {row["name"]: row for row in hil_lab("boards", "list", "--json").json}["sim-01"]
    assert (row["noise_ratio"], row["drift_ratio"]) == (0.004, None)


def test_boards_that_are_silent_cost_the_list_seconds_together() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        entries = [
            f'[boards.silent-{i}]\nkind = "sim:rpi4"\naddress = "{address}"' for i in range(30)
        ]
        Path("boards.toml").write_text("\n".join(entries))
        start_s = time.monotonic()
        rows = hil_lab("boards", "list", "--json").json
    assert time.monotonic() - start_s < 20  # one after the other they would take two minutes
    assert [row["state"] for row in rows[:30]] == ["unreachable"] * 30


def test_a_board_is_held_by_hand_and_released_by_an_administrator(client: BoardClient) -> None:
    command = [sys.executable, "-m", "hil_lab.cli", "boards", "acquire", "sim-01"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as own:
        assert own.stdout and own.stderr
        with client.lease("first"):
            said = own.stdout.readline()
            assert "leased by first" in said and "1st in the queue" in said
        assert own.stdout.readline().startswith("held     sim-01")
        assert "ended the lease of " in hil_lab("boards", "release", "sim-01").out
        assert own.wait(30) == 1
        assert "error: " in own.stderr.read()
    assert "nobody holds it" in hil_lab("boards", "release", "sim-01").out


@contextmanager
def ctrl_c_is_heard() -> Iterator[None]:
    """Let children hear ctrl-c, which is ignored where tests run in the background.

    To ask for it in the child (`preexec_fn`) forks, which gRPC's threads now and then do not bear.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_gives_a_board_back(client: BoardClient) -> None:
    command = [sys.executable, "-m", "hil_lab.cli", "boards", "acquire", "sim-01"]
    with ctrl_c_is_heard():
        own = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with own:
        assert own.stdout
        assert own.stdout.readline().startswith("held")
        own.send_signal(signal.SIGINT)
        assert own.stdout.readline() == "free     sim-01\n"
        assert own.wait(30) == 0
    assert client.describe().state == "free"


def test_a_quarantine_is_shown_and_reset(client: BoardClient) -> None:
    with client.lease("me") as session:
        session.quarantine("the anchor is +9.8% off")
    rows = {row["name"]: row for row in hil_lab("boards", "list", "--json").json}
    assert (rows["sim-01"]["state"], rows["sim-01"]["why"]) == (
        "quarantined",
        "the anchor is +9.8% off",
    )
    done = hil_lab("boards", "reset", "sim-01", "--json")
    assert (done.json["was"], done.json["state"]) == ("the anchor is +9.8% off", "free")
    assert "was not quarantined" in hil_lab("boards", "reset", "sim-01").out


def test_power_is_switched_unless_somebody_holds_the_board(client: BoardClient) -> None:
    assert hil_lab("boards", "power", "sim-01", "on").status == 0
    assert Path("on").exists() and not Path("off").exists()
    with client.lease("ann@ws3"):
        done = hil_lab("boards", "power", "sim-01", "cycle")
    assert done.status == 1 and "leased by ann@ws3" in done.err
    assert hil_lab("boards", "power", "sim-01", "off").status == 0
    assert Path("off").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("power", "sim-01", "cycel"), 'did you mean "cycle"'),
        (("power", "dead", "on"), "dead has no supply"),
        (("reset", "dead", "--power"), "dead has no supply"),
        (("acquire",), "name a board"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(arguments: tuple[str, ...], words: str) -> None:
    done = hil_lab("boards", *arguments)
    assert done.status == 2 and words in done.err


def test_of_several_boards_those_come_first_that_could_measure(client: BoardClient) -> None:
    names = ("dead", "sim-01", "sim:rpi4-2")
    assert at_most(0, names) == names
    assert at_most(2, names) == ("sim-01", "sim:rpi4-2")
    with client.lease("ann"):
        assert at_most(1, names) == ("sim:rpi4-2",)
    with pytest.raises(CallerError, match="at least 1"):
        at_most(-1, names)


def test_a_simulated_board_is_killed_and_comes_back_under_a_new_fence(tmp_path: Path) -> None:
    fences = []
    for _ in range(2):
        with (
            sim_process("sim:rpi4", "sim-02", tmp_path / "state") as process,
            BoardClient(process.address) as one,
        ):
            assert one.describe().name == "sim-02"
            with one.lease("me") as session:
                fences.append(session.fence)
                process.process.kill()
                process.process.wait()
    assert fences == [1, 2]


def test_what_is_no_simulated_board_is_refused() -> None:
    command = shlex.split("simboard rpi4 --state x")
    done = hil_lab(*command)
    assert done.status == 2 and "is no simulated board" in done.err
