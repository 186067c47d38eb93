"""Programs that mean harm: each one is refused what it wants, and the daemon serves on."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from device_agent.local import local_machine
from hil_lab.inventory import served
from host.artifact import Artifact
from host.boards.client import BoardClient
from host.boards.session import RunLimits
from host.errors import MeasurementFailed
from tests.security.hostile import CC, DEEDS, DONE, ENDLESS, REFUSED, compiled, hostile_artifact

pytestmark = [pytest.mark.tvm, pytest.mark.skipif(CC is None, reason="no C compiler")]
LIMITS = RunLimits(deadline_s=4.0, memory_bytes=1 << 30)
# What a machine may refuse also without a sandbox, or what should not be done: no control.
NO_CONTROL = (
    "become-root", "mount", "new-namespaces", "trace", "fill-scratch", "allocate-10-gb",
    "read-environment", "write-libraries",
)  # fmt: skip


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoardClient]:
    """This machine behind the real agent: one daemon for all of them."""
    with served(local_machine("local"), state_dir=tmp_path_factory.mktemp("state")) as client:
        yield client


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server


def failure(board: BoardClient, artifact: Artifact) -> MeasurementFailed:
    with (
        board.lease("tester", limits=LIMITS) as session,
        pytest.raises(MeasurementFailed) as caught,
    ):
        session.verify(artifact)
    return caught.value


def target(deed: str, folder: Path) -> Path:
    """Return the path that a deed is after: a secret to read, or a file to make."""
    path = folder / "secret"
    if deed == "read-secret":
        path.write_text("the key of the daemon")
    return path


class TestDeeds:
    @pytest.mark.parametrize("deed", DEEDS)
    def test_a_program_is_refused(
        self,
        deed: str,
        board: BoardClient,
        listener: socket.socket,
        tmp_path: Path,
        plain: Artifact,
    ) -> None:
        path = target(deed, tmp_path)
        port = listener.getsockname()[1]
        error = failure(board, hostile_artifact(tmp_path, deed, str(path), port))
        assert f"exit status {REFUSED}" in str(error)
        assert path.exists() == (deed == "read-secret")
        with pytest.raises(TimeoutError):
            listener.accept()
        with board.lease("next") as session:
            assert session.verify(plain).output_range

    @pytest.mark.parametrize("deed", [d for d in DEEDS if d not in NO_CONTROL])
    def test_without_a_sandbox_it_would_have_been_done(
        self, deed: str, listener: socket.socket, tmp_path: Path
    ) -> None:
        compiled(tmp_path, deed, str(target(deed, tmp_path)), listener.getsockname()[1])
        load = f"import ctypes; ctypes.CDLL({str(tmp_path / 'hostile.so')!r})"
        done = subprocess.run([sys.executable, "-c", load], timeout=30)
        assert done.returncode == (0 if deed == "run-a-shell" else DONE)


class TestEndless:
    @pytest.mark.parametrize("deed", ENDLESS)
    def test_a_program_is_ended_with_all_that_it_started(
        self, deed: str, board: BoardClient, tmp_path: Path, plain: Artifact
    ) -> None:
        error = failure(board, hostile_artifact(tmp_path, deed))
        assert error.reason in ("hang", "memory", "crash")
        assert [p for p in psutil.process_iter(["name"]) if p.info["name"] == "hil-stray"] == []
        with board.lease("next") as session:
            assert session.verify(plain).output_range
