"""The agent in an environment of its own, from the base install: no torch, no TVM, real numbers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.program import RUNTIME_VARIABLE, find_runtime
from host.artifact import Artifact
from host.boards.client import BoardClient
from host.boards.protocol import QUICK
from host.boards.session import BoardSession
from host.compress.candidate import compress
from host.data import load_data
from host.lower.build import Builder
from host.lower.objects import ObjectCache
from host.lower.targets import local_target
from host.verify import complaints
from tests.host.lower.test_build import mixed_policy, sample_of, subject_of

pytestmark = [pytest.mark.tvm, pytest.mark.slow]

ROOT = Path(__file__).parent.parent
SOURCES = ("protos", "device_agent", "host", "firmware_setup", "hil_lab")
OFFLINE = ("No matching distribution", "Temporary failure", "NewConnectionError", "ConnectTimeout")
PRESENT = "import importlib.util as u; print([m for m in {names!r} if u.find_spec(m)])"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the base install alone."""
    folder = tmp_path_factory.mktemp("bare")
    source = folder / "source"
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    constraints = ["-c", ROOT / "constraints.txt"]
    done = subprocess.run([*install, *constraints, source], capture_output=True, text=True)
    if done.returncode and any(sign in done.stderr for sign in OFFLINE):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    return python


@pytest.fixture
def board(python: Path, tmp_path: Path) -> Iterator[BoardSession]:
    """That environment's agent, leased."""
    command = [python.parent / "hil-lab", "agent", "--bind", "127.0.0.1:0"]
    command += ["--state", tmp_path / "state", "--name", "bare"]
    environment = {**os.environ, RUNTIME_VARIABLE: str(find_runtime())}
    agent = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    assert agent.stdout
    try:
        address = agent.stdout.readline().split()[-1]
        with BoardClient(address) as client, client.lease("tests") as session:
            yield session
    finally:
        agent.terminate()
        agent.wait()
        agent.stdout.close()


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """A small network with layers of every number format."""
    subject = subject_of("digits-cnn", load_data("digits"))
    policy = mixed_policy(subject.graph, 0)
    network = compress(subject.network, policy, subject.plan, subject.data)
    builder = Builder(subject.graph, local_target(), cache=ObjectCache(tmp_path / "cache"))
    return builder.build(network, policy, tmp_path / "artifact", sample=sample_of(subject.data))


def test_the_base_install_has_neither_torch_nor_tvm(python: Path, tmp_path: Path) -> None:
    code = PRESENT.format(names=("torch", "tvm", "timm", "rich", "sklearn", "sqlite_utils"))
    done = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"


def test_an_agent_without_torch_and_tvm_measures_and_verifies(
    board: BoardSession, artifact: Artifact
) -> None:
    assert complaints(board.verify(artifact)) == []
    measured = board.measure(artifact, QUICK)
    assert len(measured.samples_ns) >= QUICK.runs
    assert board.info.name == "bare"


def test_a_command_of_the_host_says_what_it_needs(python: Path, tmp_path: Path) -> None:
    command = [python.parent / "hil-lab", "search", "digits"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert re.fullmatch(
        r"error: this command needs \w+, which the base install leaves out: "
        r"pip install 'hil-lab\[host\]'",
        sentence,
    )
