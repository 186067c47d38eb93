"""The contract: its generated code is fresh, and what was once on the wire keeps its number."""

from __future__ import annotations

import importlib.util

import pytest

from protos import board_pb2, generate

# (message, field) -> number and type that released agents rely on.
FROZEN = {
    ("DescribeReply", "service_version"): 2,
    ("DescribeReply", "runtime_abi"): 3,
    ("LeaseToken", "fence"): 1,
    ("LeaseToken", "secret"): 2,
}
METHODS = [
    "Describe",
    "Acquire",
    "Renew",
    "Release",
    "MissingBlobs",
    "PutBlob",
    "PutArtifact",
    "Verify",
    "Measure",
    "Infer",
    "Profile",
    "Telemetry",
    "Cancel",
    "Quarantine",
    "Reset",
    "EndLease",
    "PutRevoked",
]


def test_the_service_offers_its_methods() -> None:
    service = board_pb2.DESCRIPTOR.services_by_name["Board"]
    assert service.full_name == "hil.v1.Board"
    assert [method.name for method in service.methods] == METHODS


def test_what_a_version_check_needs_never_moves() -> None:
    for (message, field), number in FROZEN.items():
        descriptor = board_pb2.DESCRIPTOR.message_types_by_name[message]
        assert descriptor.fields_by_name[field].number == number


@pytest.mark.skipif(
    importlib.util.find_spec("grpc_tools") is None, reason="grpcio-tools is not installed"
)
def test_the_generated_code_is_fresh() -> None:
    assert generate.main(["--check"]) == 0


def test_stale_code_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "stale", lambda _: ["board_pb2.py"])
    monkeypatch.setattr(generate, "generate", lambda _: None)
    assert generate.main(["--check"]) == 1
    assert "run `python -m protos.generate`" in capsys.readouterr().err
