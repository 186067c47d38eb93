"""What a board is sent serves as it is: the arm64 agent out of the bundle, under qemu-user."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_setup.bundle import RUNTIME, bundle
from hil_lab.simboard.emulator import ARCH, CPU, default_root, find_emulator
from host.boards.client import BoardClient
from host.lower.objects import default_cache
from tests.contracts.support import plain_artifact

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        platform.machine() == ARCH or find_emulator() is None,
        reason=f"needs qemu-aarch64 and an arm64 root: .ci/arm64-root {default_root()}",
    ),
]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    emulator = find_emulator()
    assert emulator is not None
    python = next(emulator.root.glob("usr/bin/python3.[0-9][0-9]")).name.removeprefix("python3.")
    folder = tmp_path_factory.mktemp("bundle")
    data = bundle(ARCH, (3, int(python)), default_cache()).data
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def client(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoardClient]:
    emulator = find_emulator()
    assert emulator is not None
    python = next(emulator.root.glob("usr/bin/python3.[0-9][0-9]"))
    state = tmp_path_factory.mktemp("state")
    sets = (f"PYTHONPATH={unpacked / 'site'}:{unpacked}", f"HIL_TVM_RUNTIME={unpacked / RUNTIME}")
    command = [
        emulator.program, "-cpu", CPU, "-L", emulator.root,
        *(part for variable in sets for part in ("-E", variable)),
        python, "-S", "-m", "device_agent", "--state", state, "--name", "emu", "--meter", "none",
    ]  # fmt: skip
    # In a folder that holds none of our packages: only the bundle's can be found.
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        cwd=state,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("emu listens on "), line
        with BoardClient(line.strip().rpartition(" ")[2], deadline_s=60) as made:
            yield made
    finally:
        process.terminate()
        process.communicate()


def test_the_agent_says_what_it_is(client: BoardClient) -> None:
    info = client.describe()
    assert (info.name, info.arch) == ("emu", ARCH)
    assert info.agent_version and info.state == "free"


def test_a_program_is_uploaded_under_a_lease(client: BoardClient, tmp_path: Path) -> None:
    with client.lease("tests") as session:
        session.upload(plain_artifact(tmp_path / "artifact", b"no library", arch=ARCH))
    assert client.describe().state == "free"
