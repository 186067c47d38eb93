"""Whatever a person or the world gets wrong ends in one clear sentence, and nothing is lost."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock

from hil_lab import experiment, leased
from hil_lab.inventory import served
from hil_lab.recipe import Recipe
from hil_lab.runs import Run, start_run
from host.artifact import Artifact
from host.boards import client as client_module
from host.boards.client import BoardClient
from host.errors import BoardBusy, BoardQuarantined, StoreError
from host.models import make_network
from host.policy import uncompressed
from host.search.episode import Episode
from host.store import Store
from tests.contracts.support import fake_machine, plain_artifact
from tests.hil_lab.commands import Done, hil_lab
from tests.host.search.toy import GRAPH, evaluate

CALLER, WORLD = 2, 1
OWN_NETWORKS = """
import torch
from torch import nn

class Spectral(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8, 10)
    def forward(self, x):
        return self.head(torch.fft.fft2(self.conv(x)).real.mean((2, 3)))

class Branching(Spectral):
    def forward(self, x):
        x = self.conv(x).mean((2, 3))
        return self.head(x * 2 if x.sum() > 0 else x)

def spectral(): return Spectral()
def branching(): return Branching()
def nine(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 9))
def greedy(depth): return None
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIL_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def artifact(here: Path) -> Artifact:
    return plain_artifact(here / "artifact", b"no library, for boards that run nothing")


@pytest.fixture
def board(here: Path) -> Iterator[BoardClient]:
    """A board that the inventory lists as pi4-01."""
    with served(fake_machine()) as client:
        list_board(client.address)
        yield client


def list_board(address: str) -> None:
    text = f'[boards.pi4-01]\nkind = "rpi4"\naddress = "{address}"\n'
    Path("boards.toml").write_text(text)


def refused(done: Done, status: int, *words: str) -> None:
    """Check for one sentence that holds all words, and the exit status."""
    assert "Traceback" not in done.err
    sentences = [line for line in done.err.splitlines() if line]
    # What was going on may be said before; the error is last and one line.
    errors = [line for line in sentences if line.startswith("error: ")]
    assert errors == sentences[-1:], done.err
    for word in words:
        assert word in errors[0], errors[0]
    assert done.status == status


def checkpoint(path: str, model: str = "digits-cnn", classes: int = 10) -> str:
    network = make_network(model, classes=classes, input_shape=(1, 8, 8))
    torch.save(network.state_dict(), path)
    return path


class TestRecipes:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[search]\nepisods = 3", ("search.episods: unknown key", '"episodes"')),
            ("[serch]", ("serch: unknown key", '"search"')),
            ("[search]\nepisodes = 'many'", ("search.episodes: must be a whole number",)),
            ("[search]\ntarget = 1.5", ("search.target: must lie in (0, 1]",)),
            ("search = 3", ("search: must be a table",)),
            ("threads = ", ("Invalid value (at line 3",)),
            ("[search.agent]\ndesing = 3", ("search.agent.desing: unknown key", '"design"')),
            ("[search]\ncost = 'latncy'", ("search.cost", '"latency"')),
            ("[search]\nstrategy = 'galen-jont'", ("search.strategy", '"galen-joint"')),
            ("[search]\nreward = 'absolut'", ("search.reward", '"absolute"')),
            ("[measure]\nreport = 'reprt'", ("measure.report", '"report"')),
            ("board = 'sim:rpi5'", ("sim:rpi5", '"sim:rpi4"')),
            ("board = 'sim:rpi4?fault=hag'", ('unknown fault "hag"', '"hang"')),
            ("board = 'pi4-01'", ('no board "pi4-01"', "local, sim:rpi4")),
        ],
    )
    def test_a_wrong_recipe_is_refused_before_anything_starts(
        self, here: Path, text: str, words: tuple[str, ...]
    ) -> None:
        Path("own.toml").write_text(f'model = "digits-cnn"\ndata = "digits"\n{text}\n')
        refused(hil_lab("search", "own.toml"), CALLER, *words)
        assert not Path("runs").exists()

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("search", "digts"), ('no recipe "digts"', '"digits"')),
            (("search", "none.toml"), ("none.toml: no such recipe",)),
            (("search", "digits", "--target", "x"), ("--target x: must be a number",)),
            (("search", "digits", "--set", "seed"), ("write KEY=VALUE",)),
            (("search", "digits", "--set", "search.seed.x=1"), ("seed is not a table",)),
            (("search", "digits", "--set", "data=digit"), ('"digit"', '"digits"')),
            (("sarch", "digits"), ('unknown command "sarch"', '"search"')),
            (("boards", "lst"), ('unknown command "lst"', '"list"')),
            (("boards", "measure"), ("name a board",)),
            (("boards", "measure", "local"), ("name an artifact folder",)),
            (("resume", "nowhere"), ("nowhere is not a run",)),
            (("report", "nowhere"), ("nowhere is not a run",)),
            (("verify", "nowhere"), ("nowhere",)),
        ],
    )
    def test_a_wrong_command_says_what_was_meant(
        self, arguments: tuple[str, ...], words: tuple[str, ...]
    ) -> None:
        refused(hil_lab(*arguments), CALLER, *words)


class TestNetworks:
    def train(self, *settings: str) -> Done:
        return hil_lab("train", "digits", *(part for s in settings for part in ("--set", s)))

    def test_a_missing_checkpoint(self) -> None:
        refused(self.train("checkpoint=none.pt"), CALLER, "none.pt: no such checkpoint")

    def test_a_file_that_is_no_checkpoint(self) -> None:
        Path("bad.pt").write_bytes(b"no checkpoint")
        refused(self.train("checkpoint=bad.pt"), CALLER, "bad.pt", "weights-only")

    def test_a_checkpoint_of_other_classes(self) -> None:
        wrong = checkpoint("seven.pt", classes=7)
        refused(self.train(f"checkpoint={wrong}"), CALLER, "has 7 classes, the network has 10")

    def test_a_checkpoint_of_another_network(self) -> None:
        wrong = checkpoint("vit.pt", "digits-vit")
        refused(self.train(f"checkpoint={wrong}"), CALLER, "checkpoint of another network")

    def test_an_unknown_network(self) -> None:
        refused(self.train("model=digits-cn"), CALLER, '"digits-cn"', 'did you mean "digits-cnn"')

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("spectral", ("operation fft_fft2 has no kernel",)),
            ("branching", ("cannot be traced",)),
            ("nine", ("to (9,), but the data has 10 classes",)),
            ("greedy", ("must be callable with classes",)),
            ("absent", ("cannot be imported",)),
        ],
    )
    def test_own_code_that_cannot_be_used(
        self, monkeypatch: pytest.MonkeyPatch, name: str, words: tuple[str, ...]
    ) -> None:
        Path("own_networks.py").write_text(OWN_NETWORKS)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.delitem(sys.modules, "own_networks", raising=False)
        refused(self.train(f"model=own_networks:{name}"), CALLER, *words)


class TestBoards:
    def test_a_dead_board(self, artifact: Artifact) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            list_board(f"127.0.0.1:{closed.getsockname()[1]}")
        refused(hil_lab("boards", "show", "pi4-01"), WORLD, "127.0.0.1")
        refused(hil_lab("boards", "measure", "pi4-01", artifact.root), WORLD, "127.0.0.1")
        listed = hil_lab("boards", "list", "--json")
        assert listed.status == 0
        assert [row["state"] for row in listed.json] == ["unreachable", "free", "free"]

    def test_a_board_of_another_version(
        self, board: BoardClient, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client_module, "SERVICE_VERSION", 99)
        done = hil_lab("boards", "measure", "pi4-01", artifact.root)
        refused(done, WORLD, "board service", "99", "update the older one")

    def test_a_board_of_another_runtime(
        self, board: BoardClient, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client_module, "RUNTIME_ABI", 99)
        done = hil_lab("boards", "measure", "pi4-01", artifact.root)
        refused(done, WORLD, "99", "update the agent")

    def test_the_second_user_of_a_leased_board(
        self, board: BoardClient, artifact: Artifact
    ) -> None:
        with board.lease("alice@ws1"):
            done = hil_lab("boards", "measure", "pi4-01", artifact.root)
        refused(done, WORLD, "alice@ws1")

    def test_a_search_waits_for_a_user_but_not_for_a_repair(
        self, board: BoardClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said: list[str] = []
        monkeypatch.setattr(leased, "LEASE_WAIT_S", 0.5)
        reporter: Any = SimpleNamespace(say=said.append)
        wanted = leased.Wanted(("pi4-01",), "me", reporter, lambda why: None)
        boards = [leased.Reached("pi4-01", board)]
        with board.lease("alice@ws1"), ExitStack() as stack, pytest.raises(BoardBusy):
            leased.lease(wanted, stack, boards)
        assert "wait     " in said[0] and "leased by alice@ws1" in said[0]
        assert "1st in the queue" in said[0]
        with board.lease("alice@ws1") as session:
            session.quarantine("the fan is broken")
        with ExitStack() as stack, pytest.raises(BoardQuarantined, match="the fan is broken"):
            leased.lease(wanted, stack, boards)
        assert len(said) == 1

    def test_a_search_on_a_dead_board_ends_before_the_training(self) -> None:
        list_board("127.0.0.1:1")
        refused(hil_lab("search", "digits", "--board", "pi4-01"), WORLD, "127.0.0.1:1: no answer")
        assert not list(Path("runs").glob("*/network.safetensors"))

    def test_a_corrupt_blob(self, board: BoardClient, artifact: Artifact) -> None:
        blob = artifact.root / "blobs" / artifact.manifest["library"]["digest"]
        blob.write_bytes(b"x" + blob.read_bytes()[1:])
        done = hil_lab("boards", "measure", "pi4-01", artifact.root)
        refused(done, WORLD, blob.name[:12], "is corrupt; build it again")

    def test_a_missing_blob_and_a_corrupt_manifest(
        self, board: BoardClient, artifact: Artifact
    ) -> None:
        (artifact.root / "blobs" / artifact.manifest["library"]["digest"]).unlink()
        refused(hil_lab("boards", "measure", "pi4-01", artifact.root), WORLD, "lacks blob")
        (artifact.root / "manifest.json").write_text("{")
        done = hil_lab("verify", artifact.root, "--board", "pi4-01")
        refused(done, WORLD, "manifest.json is corrupt; build it again")


class TestRuns:
    @pytest.fixture
    def run(self, here: Path) -> Run:
        return start_run(Recipe("digits-cnn", "digits"), {})

    def test_a_second_process_on_one_run(self, run: Run) -> None:
        with FileLock(run.path(".lock")):
            done = hil_lab("resume", run.folder)
        refused(done, CALLER, "is being worked on by another process")

    def test_a_corrupt_run(self, run: Run) -> None:
        run.path("recipe.json").write_text("{")
        refused(hil_lab("resume", run.folder), WORLD, "recipe.json cannot be read")

    def test_an_unfinished_run_has_nothing_to_export(self, run: Run) -> None:
        done = hil_lab("export", run.folder, "-o", "out")
        refused(done, CALLER, "is not finished: hil-lab resume")

    @pytest.fixture
    def small_disk(self, here: Path) -> Iterator[Path]:
        """A real file system of 128 KiB at runs/."""
        disk = here / "runs"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
        if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("mounting a small file system needs root")
        yield disk
        subprocess.run(["umount", str(disk)], check=True)

    def test_a_full_disk_in_the_middle_of_a_run(self, small_disk: Path) -> None:
        Path("own.toml").write_text('model = "digits-cnn"\ndata = "digits"\n[train]\nepochs = 1\n')
        refused(hil_lab("train", "own.toml"), WORLD, "cannot write", "free some space")
        (run,) = small_disk.iterdir()
        assert Run(run).recipe.model == "digits-cnn"  # what was written is whole

    def test_a_full_disk_at_the_start(self, small_disk: Path) -> None:
        (small_disk / "other").write_bytes(bytes(128 << 10))
        refused(hil_lab("search", "digits"), WORLD, "cannot write", "free some space")

    def test_a_file_that_cannot_be_written_for_another_reason(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error", "disk")

        monkeypatch.setattr(experiment.Workbench, "_train", broken)
        refused(hil_lab("train", "digits"), WORLD, "disk: Input/output error")

    def test_what_nobody_foresaw_is_still_told_to_free_space(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "disk")

        monkeypatch.setattr(experiment.Workbench, "_train", full)
        words = "disk: No space left on device; free some space"
        refused(hil_lab("train", "digits"), WORLD, words)

    def test_a_store_that_cannot_be_made_says_what_to_do(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

        monkeypatch.setattr(Path, "mkdir", full)
        with pytest.raises(StoreError, match="quota exceeded; free some space, then resume"):
            Store(here / "new" / "store.db")

    def test_a_full_database_says_so_and_keeps_what_it_has(self, here: Path) -> None:
        store = Store(here / "store.db")
        store._db.execute("PRAGMA max_page_count = 12")
        policy, kept = uncompressed(GRAPH), 0
        with pytest.raises(StoreError, match=r"store\.db: .*full; free some space, then resume"):
            for kept in range(1000):
                store.add_episode("run", Episode(kept, policy, evaluate(policy), 0.0))
        store.close()
        store = Store(here / "store.db")
        assert [e.number for e in store.episodes("run")] == list(range(kept))
        assert kept > 0
        store.close()


def test_no_message_names_a_file_of_the_source() -> None:
    done = hil_lab("search", "none.toml")
    assert not re.search(r"\.py\b", done.err)
