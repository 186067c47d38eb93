"""Every command on one tiny run, in this process: what it prints, writes and returns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hil_lab.runs import NETWORK, Run, open_run
from host.artifact import Artifact
from host.data import Data, load_data
from host.policy import Policy
from tests.hil_lab import tiny
from tests.hil_lab.commands import Done, hil_lab

pytestmark = [pytest.mark.tvm, pytest.mark.slow]

ROWS = ["fp32", "uniform-int8", "at-0.3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("commands")


@pytest.fixture(scope="module", autouse=True)
def surroundings(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in tiny.environment(tmp_path_factory).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def searched(surroundings: object) -> Done:
    done = hil_lab("search", "digits", *tiny.arguments(), "--json")
    assert done.status == 0, done.err
    return done


@pytest.fixture(scope="module")
def run(searched: Done, folder: Path) -> Run:
    return open_run(folder / "runs" / searched.json["run"])


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data("digits")


class TestSearch:
    def test_the_result_has_both_references_and_the_target(self, searched: Done) -> None:
        result = searched.json
        assert [row["name"] for row in result["rows"]] == ROWS
        assert result["target"] == "cortex-a72"
        assert result["board"]["kind"] == "sim:rpi4"
        for row in result["rows"]:
            assert row["evaluation"]["split"] == "test"
            assert row["evaluation"]["verdict"] == "trusted"

    def test_every_program_is_proved_on_this_machine(self, searched: Done) -> None:
        for row in searched.json["rows"]:
            proof = row["verify"]["local"]
            assert proof["executed"] and proof["complaints"] == []
            formats = [p["mode"] for p in row["policy"]["layers"]]
            assert len(proof["layers"]) == sum(mode != "fp32" for mode in formats)

    def test_a_proof_that_could_not_be_made_says_why(self, searched: Done) -> None:
        for row in searched.json["rows"]:
            proof = row["verify"]["sim:rpi4"]
            assert proof["executed"] or "qemu-aarch64" in proof["reason"]

    def test_resuming_a_finished_run_changes_nothing(self, searched: Done, run: Run) -> None:
        again = hil_lab("resume", run.folder, "--json")
        assert again.status == 0
        assert again.json["rows"] == searched.json["rows"]

    def test_a_person_gets_a_table(self, run: Run) -> None:
        done = hil_lab("resume", run.folder)
        assert done.status == 0
        for name in (*ROWS, "report.html"):
            assert name in done.out

    def test_explain_prints_every_default_and_starts_nothing(self, folder: Path) -> None:
        before = list((folder / "runs").iterdir())
        done = hil_lab("search", "digits", "--explain", "--target", "0.2,0.5", "--seed", 7)
        assert done.json["search"]["target"] == [0.2, 0.5]
        assert done.json["search"]["seed"] == 7
        assert done.json["threads"] == 1
        assert list((folder / "runs").iterdir()) == before


def test_report_writes_the_page_again(run: Run) -> None:
    page = run.path("report.html")
    page.unlink()
    done = hil_lab("report", run.folder)
    assert done.status == 0
    assert done.out.strip().endswith("report.html")
    assert "<html" in page.read_text()


class TestExport:
    @pytest.fixture(scope="class")
    def exported(self, run: Run, folder: Path) -> Path:
        done = hil_lab("export", run.folder, "-o", folder / "exported")
        assert done.status == 0, done.err
        return folder / "exported"

    def test_an_export_is_complete(self, exported: Path) -> None:
        assert Artifact.load(exported / "artifact").manifest["arch"] == "aarch64"
        assert Artifact.load(exported / "artifact-local").manifest["golden"]
        assert (exported / NETWORK).is_file()
        assert "latency" in (exported / "README.md").read_text()

    def test_an_export_verifies(self, exported: Path) -> None:
        done = hil_lab("verify", exported, "--json")
        assert done.status == 0
        assert done.json["complaints"] == []

    def test_an_export_goes_to_a_new_folder(self, exported: Path, run: Run) -> None:
        done = hil_lab("export", run.folder, "-o", exported)
        assert done.status == 2
        assert "is not empty" in done.err


class TestVerify:
    @pytest.mark.parametrize("at", ["0.3", "at-0.3", "uniform-int8"])
    def test_a_program_of_a_run_by_its_name(self, run: Run, at: str) -> None:
        done = hil_lab("verify", run.folder, "--at", at, "--json")
        assert done.status == 0
        assert done.json["layers"]
        assert all(not layer["accumulate_mismatches"] for layer in done.json["layers"])

    def test_a_person_sees_the_layers(self, run: Run) -> None:
        done = hil_lab("verify", run.folder)
        assert done.status == 0
        assert "quantized layers integer-exact" in done.out

    def test_an_unknown_program_gets_a_hint(self, run: Run) -> None:
        done = hil_lab("verify", run.folder, "--at", "at-0.4")
        assert done.status == 2
        assert 'did you mean "at-0.3"' in done.err


class TestEvaluate:
    @pytest.fixture(scope="class")
    def images(self, folder: Path, data: Data) -> Path:
        path = folder / "test.npz"
        np.savez(path, x=data.test.images[:200], y=data.test.labels[:200])
        return path

    def test_the_program_and_the_network_agree(self, run: Run, images: Path) -> None:
        done = hil_lab("evaluate", run.folder, "--at", "uniform-int8", "--data", images, "--json")
        found = done.json
        assert found["images"] == 200
        assert found["agreement"] >= 0.99
        assert abs(found["program"]["accuracy"] - found["network"]["accuracy"]) <= 0.01
        assert done.status == (0 if found["agreement"] >= 0.999 else 1)

    def test_wrong_images_are_refused(self, run: Run, folder: Path) -> None:
        path = folder / "wrong.npz"
        np.savez(path, x=np.zeros((3, 9, 9, 1), np.uint8), y=np.zeros(3))
        done = hil_lab("evaluate", run.folder, "--data", path)
        assert done.status == 2
        assert "x must be uint8 of shape (n, 8, 8, 1)" in done.err


class TestBoards:
    def test_list_shows_the_built_in_boards(self) -> None:
        done = hil_lab("boards", "list", "--json")
        assert [(row["name"], row["state"]) for row in done.json] == [
            ("local", "free"),
            ("sim:rpi4", "free"),
        ]
        assert "NAME" in hil_lab("boards", "list").out

    def test_show_describes_one(self) -> None:
        done = hil_lab("boards", "show", "sim:rpi4?seed=3", "--json")
        assert done.json["arch"] == "aarch64"
        assert done.json["fingerprint"]["seed"] == "3"

    def test_measure_prints_raw_samples_with_their_verdict(self, run: Run) -> None:
        artifact = run.path("final", "fp32", "artifact")
        measure = ("boards", "measure", "sim:rpi4", artifact, "--protocol", "quick")
        done = hil_lab(*measure, "--json")
        assert done.status == 0
        assert done.json["verdict"] == "trusted"
        assert done.json["artifact"] == Artifact.load(artifact).digest
        assert "latency" in hil_lab(*measure).out

    def test_profile_times_every_kernel(self, run: Run) -> None:
        artifact = run.path("final", "uniform-int8", "artifact")
        done = hil_lab("boards", "profile", "sim:rpi4", artifact, "--json")
        calls = [row["call"] for row in done.json["kernels"]]
        assert calls == [row["call"] for row in Artifact.load(artifact).manifest["kernels"]]

    def test_a_program_of_another_machine_is_refused(self, run: Run) -> None:
        artifact = run.path("final", "fp32", "artifact")
        done = hil_lab("boards", "measure", "local", artifact, "--protocol", "quick")
        assert done.status == 1
        assert "the artifact is for aarch64" in done.err


def test_train_keeps_a_checkpoint_that_a_search_can_start_from() -> None:
    done = hil_lab("train", "digits", "--set", "train.epochs=1", "--json")
    assert done.status == 0
    checkpoint = done.json["checkpoint"]
    again = hil_lab("train", "digits", "--set", f"checkpoint={checkpoint}", "--json")
    assert again.json["validation"] == done.json["validation"]


def test_sensitivity_gives_every_layer_a_row(run: Run) -> None:
    arguments = ("sensitivity", "digits", *tiny.arguments(), "--set")
    checkpoint = f"checkpoint={run.path('network.safetensors')}"
    done = hil_lab(*arguments, checkpoint, "--json")
    policy = Policy.from_dict(run.read("final/fp32/policy.json"))
    layers = list(dict.fromkeys(entry["layer"] for entry in done.json["entries"]))
    assert layers == [p.layer for p in policy.layers]
    assert policy.layers[0].layer in hil_lab(*arguments, checkpoint).out
