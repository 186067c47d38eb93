"""A recorded board answers again as it did: numbers, proofs, telemetry, and every failure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest

from device_agent.errors import Crashed, Hung, OutOfMemory
from hil_lab.inventory import board_names, open_board, read_inventory, served
from hil_lab.simboard.board import SimSettings, sim_machine
from host.artifact import Artifact
from host.boards.client import BoardClient
from host.boards.protocol import QUICK, REPORT
from host.boards.session import BoardSession
from host.boards.tape import Tape, read_tape
from host.boards.types import Measurement
from host.errors import (
    ArtifactRejected,
    BoardUnreachable,
    CallerError,
    HilError,
    MeasurementFailed,
    StoreError,
)
from tests.contracts.support import FakeRunner, fake_machine, plain_artifact

IDLE = replace(REPORT, idle_s=10.0)


@pytest.fixture
def artifact(library: bytes, tmp_path: Path) -> Artifact:
    return plain_artifact(tmp_path / "artifact", library)


@pytest.fixture
def other(library: bytes, tmp_path: Path) -> Artifact:
    return plain_artifact(tmp_path / "other", library, structure="other")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tapes" / "board.jsonl"


@contextmanager
def replayed(file: Path) -> Iterator[BoardSession]:
    with open_board(f"replay:{file}") as client, client.lease("me") as session:
        yield session


def numbers(measurement: Measurement) -> dict[str, object]:
    """Return what was measured; who measured it, and its receipt, are a replay's own."""
    kept = measurement.to_dict()
    return {key: kept[key] for key in kept if key not in ("board", "fingerprint", "receipt")}


def test_measurements_come_back_to_the_nanosecond(
    artifact: Artifact, other: Artifact, file: Path
) -> None:
    with (
        open_board(f"record:{file}@sim:rpi4?seed=3") as client,
        client.lease("me") as session,
    ):
        quick = session.measure(artifact, QUICK, synthetic_weights=True)
        report = session.measure(artifact, IDLE, anchor=other)
    with replayed(file) as session:
        again = session.measure(artifact, IDLE, anchor=other)
        assert numbers(again) == numbers(report)
        assert again.energy == report.energy and again.energy is not None
        assert again.flags == report.flags
        assert numbers(session.measure(artifact, QUICK, synthetic_weights=True)) == numbers(quick)


def test_a_replay_says_that_it_is_one_and_mixes_with_nothing(
    artifact: Artifact, file: Path
) -> None:
    with open_board(f"record:{file}@sim:rpi4") as client, client.lease("me") as session:
        was = session.measure(artifact, QUICK)
    with replayed(file) as session:
        found = session.measure(artifact, QUICK)
    assert found.fingerprint["replay"].startswith("sim:rpi4 ")
    assert found.fingerprint_digest != was.fingerprint_digest
    assert {**was.fingerprint, "replay": found.fingerprint["replay"]} == dict(found.fingerprint)
    assert found.board == f"replay:{file}"


class Counting(FakeRunner):
    """Every block takes a microsecond longer than the one before."""

    blocks = 0

    def block(self, job, plan, on_phase):  # type: ignore[no-untyped-def]
        self.blocks += 1
        found = super().block(job, plan, on_phase)
        return replace(found, samples_ns=tuple(1000 * self.blocks + n for n in found.samples_ns))


def test_the_same_program_gets_the_next_answer_and_then_the_first(
    artifact: Artifact, file: Path
) -> None:
    with (
        served(fake_machine(Counting()), tape=Tape(file, "pi4")) as client,
        client.lease("me") as session,
    ):
        given = [session.measure(artifact, QUICK).samples_ns for _ in range(3)]
    assert len(set(given)) == 3
    with replayed(file) as session:
        assert [session.measure(artifact, QUICK).samples_ns for _ in range(4)] == [*given, given[0]]


def test_proofs_profiles_outputs_and_telemetry_come_back(artifact: Artifact, file: Path) -> None:
    samples = np.random.default_rng(1).random((3, 64), dtype=np.float32)

    def asked(client: BoardClient) -> list[object]:
        with client.lease("me") as session:
            outputs = session.infer(artifact, samples)
            proof, profile = session.verify(artifact), session.profile(artifact, 5)
        return [outputs.tolist(), proof, profile, list(client.telemetry(0.05, 2))]

    with served(fake_machine(), tape=Tape(file, "pi4")) as client:
        was = asked(client)
    with open_board(f"replay:{file}") as client:
        assert asked(client) == was


@pytest.mark.parametrize(
    ("error", "reason"), [(Crashed, "crash"), (Hung, "hang"), (OutOfMemory, "memory")]
)
def test_failures_of_programs_happen_again_at_their_place(
    error: type[Exception], reason: str, artifact: Artifact, file: Path
) -> None:
    runner = FakeRunner()
    with (
        served(fake_machine(runner), tape=Tape(file, "pi4")) as client,
        client.lease("me") as session,
    ):
        session.measure(artifact, QUICK)
        runner.fail = error("as it was")
        with pytest.raises(MeasurementFailed):
            session.measure(artifact, QUICK)
        runner.fail = None
        session.measure(artifact, QUICK)
    with replayed(file) as session:
        session.measure(artifact, QUICK)
        with pytest.raises(MeasurementFailed, match=r"as it was.*as recorded, after") as caught:
            session.measure(artifact, QUICK)
        assert caught.value.reason == reason
        session.measure(artifact, QUICK)


class Dies(grpc.ServerInterceptor):  # type: ignore[misc]
    """Answers the second upload as a wire does that is cut."""

    uploads = 0

    def intercept_service(self, continuation, details):  # type: ignore[no-untyped-def]
        handler = continuation(details)
        self.uploads += details.method.endswith("PutArtifact")
        if not details.method.endswith("PutArtifact") or self.uploads < 2:
            return handler

        def cut(request, context):  # type: ignore[no-untyped-def]
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

        return grpc.unary_unary_rpc_method_handler(
            cut, handler.request_deserializer, handler.response_serializer
        )


def test_a_board_that_went_away_goes_away_again(
    artifact: Artifact, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hil_lab.inventory.interceptors", lambda fault: (Dies(),))
    with open_board(f"record:{file}@sim:rpi4") as client, client.lease("me") as session:
        session.measure(artifact, QUICK)
        with pytest.raises(BoardUnreachable):
            session.measure(artifact, QUICK)
    monkeypatch.undo()
    with replayed(file) as session:
        session.measure(artifact, QUICK)
        with pytest.raises(
            BoardUnreachable, match=r"PutArtifact after .*Socket closed .as recorded"
        ):
            session.measure(artifact, QUICK)


@pytest.mark.parametrize("fault", ["crash", "hang", "throttle", "brown-out", "lost-readings"])
def test_a_bad_day_comes_back(fault: str, artifact: Artifact, file: Path) -> None:
    def day(name: str) -> object:
        try:
            with open_board(name) as client, client.lease("me") as session:
                found = numbers(session.measure(artifact, QUICK))
        except HilError as e:
            return type(e), str(e).partition(": ")[2].partition(" (as recorded")[0]
        return found

    was = day(f"record:{file}@sim:rpi4?fault={fault}")
    again = day(f"replay:{file}")
    assert again == was


def test_a_program_that_was_not_recorded_is_refused(
    artifact: Artifact, other: Artifact, file: Path
) -> None:
    with open_board(f"record:{file}@sim:rpi4") as client, client.lease("me") as session:
        session.measure(artifact, QUICK)
    with replayed(file) as session:
        with pytest.raises(ArtifactRejected, match="has no measure of program other as it is"):
            session.measure(other, QUICK)
        with pytest.raises(ArtifactRejected, match="has no verify of program"):
            session.verify(artifact)


def test_several_boards_share_a_file(artifact: Artifact, file: Path) -> None:
    for board in ("sim:rpi4", "sim:rpi4-2"):
        with open_board(f"record:{file}@{board}") as client, client.lease("me") as session:
            session.measure(artifact, QUICK)
    with pytest.raises(CallerError, match="records sim:rpi4, sim:rpi4-2: name one, replay:"):
        board_names([f"replay:{file}"])
    with open_board(f"replay:{file}#sim:rpi4-2") as client:
        assert client.describe().fingerprint["unit"] == "2"
    with pytest.raises(CallerError, match="records no board nobody; it has: sim:rpi4"):
        board_names([f"replay:{file}#nobody"])


def test_no_token_is_written_and_a_torn_line_is_forgotten(artifact: Artifact, file: Path) -> None:
    with (
        served(sim_machine("sim", SimSettings()), tape=Tape(file, "sim")) as client,
        client.lease("me") as session,
    ):
        secret = session._token.secret
        session.measure(artifact, QUICK)
    assert secret not in file.read_text()
    whole = read_tape(file)
    with file.open("a") as end:
        end.write('{"format":1,"what":"mea')
    assert read_tape(file) == whole
    Tape(file, "sim").write("telemetry", conditions={})
    assert [json.loads(line)["what"] for line in file.read_text().splitlines()][-1] == "telemetry"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such recording"),
        ("", "records no board"),
        ("{}\n", "line 1: not a recording"),
        ('{"format":9}\n', "recording format 9, this reads 1"),
        ('{"format":1,"what":"telemetry","board":"x"}\n', "the board never answered"),
    ],
)
def test_what_is_no_recording_is_refused(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CallerError, match=message):
        board_names([f"replay:{path}"])


def test_a_recording_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write the recording"):
        Tape(tmp_path / "file" / "x.jsonl", "sim")


def test_names_of_recorded_boards_are_expanded(tmp_path: Path) -> None:
    path = tmp_path / "boards.toml"
    entry = '[boards.{0}]\nkind = "rpi4"\naddress = "127.0.0.1:1"\ntags = ["rack1"]\nrecord = "t"\n'
    path.write_text(entry.format("a") + entry.format("b"))
    inventory = read_inventory(path)
    assert inventory["a"].record == str(tmp_path / "t")
    assert board_names(["record:f@tag=rack1"], inventory) == ("record:f@a", "record:f@b")
    with pytest.raises(CallerError, match="write record:FILE@BOARD"):
        board_names(["record:f"], inventory)
