"""Fixtures that several board suites import into their conftest.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.artifact import Artifact
from tests.contracts.support import compile_tiny, plain_artifact, quantized_artifact


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the compiled tiny libraries."""
    pytest.importorskip("tvm", reason="compiles with TVM")
    folder = tmp_path_factory.mktemp("tiny")
    compile_tiny(folder)
    return folder


@pytest.fixture(scope="session")
def library() -> bytes:
    """Bytes that are no library: for boards that run nothing."""
    return bytes(range(256)) * 4096


@pytest.fixture
def plain(tiny: Path, tmp_path: Path) -> Artifact:
    """relu(x w), compiled."""
    return plain_artifact(tmp_path / "plain", (tiny / "plain.so").read_bytes())


@pytest.fixture
def quantized(tiny: Path, tmp_path: Path) -> Artifact:
    """One quantized layer, compiled."""
    return quantized_artifact(tmp_path / "quantized", (tiny / "quantized.so").read_bytes())
