"""What every board does, whatever is under the agent: fake, simulated, and this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_agent.local import local_machine
from hil_lab.inventory import served
from hil_lab.simboard.board import SimSettings, sim_machine
from host.artifact import Artifact
from host.boards.client import BoardClient
from host.boards.protocol import QUICK
from host.boards.receipts import check
from host.boards.session import BoardSession
from host.boards.types import Measurement, Progress
from host.errors import ArtifactRejected, BoardBusy, VersionMismatch
from tests.contracts.support import (
    ARCH,
    fake_machine,
    plain_artifact,
    plain_reference,
)

MACHINES = {
    "fake": fake_machine,
    "sim": lambda: sim_machine("sim:rpi4", SimSettings(seed=1)),
    "local": lambda: local_machine("local"),
}


@pytest.fixture(params=MACHINES)
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BoardClient]:
    with served(MACHINES[request.param](), state_dir=tmp_path / "state") as client:
        yield client


@pytest.fixture
def session(client: BoardClient) -> Iterator[BoardSession]:
    with client.lease("tester") as session:
        yield session


@pytest.mark.tvm
class TestBoardContract:
    def test_describe_says_what_it_is_and_who_holds_it(self, client: BoardClient) -> None:
        assert client.describe().state == "free"
        with client.lease("me@here"):
            info = client.describe()
        assert (info.state, info.holder) == ("leased", "me@here")
        assert info.fingerprint
        assert client.describe().state == "free"

    def test_measure_returns_raw_samples_with_their_provenance(
        self, session: BoardSession, plain: Artifact
    ) -> None:
        seen: list[Progress] = []
        measured = session.measure(plain, QUICK, on_progress=seen.append)
        assert len(measured.samples_ns) >= QUICK.runs
        assert all(ns > 0 for ns in measured.samples_ns)
        assert measured.artifact == plain.digest
        assert measured.fingerprint == session.info.fingerprint
        assert [p.phase for p in seen] == ["gate", "warmup", "sample", "sampled"]
        assert measured.blocks[0].start and measured.blocks[0].end

    def test_an_anchor_runs_around_every_block(
        self, session: BoardSession, plain: Artifact, quantized: Artifact
    ) -> None:
        measured = session.measure(plain, replace(QUICK, blocks=2), anchor=quantized)
        assert measured.anchor == quantized.digest
        assert (len(measured.blocks), len(measured.anchors)) == (2, 3)
        assert all(block.samples_ns for block in measured.anchors)

    def test_a_receipt_states_what_came_back(self, session: BoardSession, plain: Artifact) -> None:
        measured = session.measure(plain, QUICK)
        assert "the receipt states other numbers" not in measured.flags
        assert check(measured).state == "signed" or check(measured).why

    def test_a_measurement_survives_json(self, session: BoardSession, plain: Artifact) -> None:
        measured = session.measure(plain, QUICK)
        assert Measurement.from_dict(json.loads(json.dumps(measured.to_dict()))) == measured

    def test_a_latency_only_measurement_ships_no_weights(
        self, client: BoardClient, session: BoardSession, plain: Artifact, tmp_path: Path
    ) -> None:
        session.measure(plain, QUICK, synthetic_weights=True)
        blobs = {path.name for path in (tmp_path / "state" / "blobs").iterdir()}
        assert blobs == {plain.manifest["library"]["digest"]}

    def test_verify_compares_the_golden_output(
        self, session: BoardSession, plain: Artifact
    ) -> None:
        report = session.verify(plain)
        assert report.output_largest <= 1e-3 * report.output_range

    def test_infer_runs_every_sample(self, session: BoardSession, plain: Artifact) -> None:
        samples = np.random.default_rng(3).random((300, 64), dtype=np.float32)
        outputs = session.infer(plain, samples)
        assert outputs.shape == (300, 10)
        np.testing.assert_allclose(outputs, plain_reference(samples), atol=1e-5)

    def test_profile_times_every_row_of_the_kernel_table(
        self, session: BoardSession, plain: Artifact
    ) -> None:
        profile = session.profile(plain, 4)
        assert [row.call for row in profile.kernels] == ["matmul", "relu"]
        assert all(len(row.samples_ns) == 4 for row in profile.kernels)
        assert len(profile.end_to_end_ns) == len(profile.sums_ns) == 4
        assert profile.excess_ratio is not None

    def test_a_profile_has_counters_or_says_why_not(
        self, session: BoardSession, plain: Artifact
    ) -> None:
        profile = session.profile(plain, 4)
        assert profile.notes or all(row.counters for row in profile.kernels)

    def test_a_second_user_is_told_who_has_it(
        self, client: BoardClient, session: BoardSession
    ) -> None:
        with pytest.raises(BoardBusy, match="leased by tester"), client.lease("other"):
            pass

    def test_an_artifact_of_another_abi_is_refused(
        self, session: BoardSession, library: bytes, tmp_path: Path
    ) -> None:
        artifact = plain_artifact(tmp_path / "a", library, abi=99)
        with pytest.raises(VersionMismatch, match="runtime ABI 99, the agent has 1"):
            session.upload(artifact)

    def test_an_artifact_of_another_machine_is_refused(
        self, session: BoardSession, library: bytes, tmp_path: Path
    ) -> None:
        artifact = plain_artifact(tmp_path / "a", library, arch="riscv64")
        with pytest.raises(ArtifactRejected, match="is for riscv64"):
            session.upload(artifact)

    def test_telemetry_streams_conditions(self, client: BoardClient) -> None:
        assert len(list(client.telemetry(period_s=0.05, count=2))) == 2

    def test_the_board_is_free_again_after_a_failure(
        self, client: BoardClient, library: bytes, tmp_path: Path
    ) -> None:
        artifact = plain_artifact(tmp_path / "a", library, abi=99)
        with pytest.raises(VersionMismatch), client.lease("me") as session:
            session.upload(artifact)
        assert client.describe().state == "free"


def test_the_machine_of_the_artifacts_is_this_one() -> None:
    assert local_machine("local").identity.arch == ARCH
