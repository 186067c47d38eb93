"""Verify counts exactly what differs: integers of the forced run, ties, and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_agent.errors import Rejected
from device_agent.supervise import ProcessRunner
from device_agent.values import Job
from host.artifact import Artifact
from protos.values import LayerCheck, VerifyReport
from tests.contracts.support import plain_artifact, quantized_artifact

pytestmark = pytest.mark.tvm


def verify(artifact: Artifact) -> VerifyReport:
    return ProcessRunner().verify(Job(artifact.manifest, artifact.root / "blobs"))


def spoiled(tiny: Path, tmp_path: Path, spoil: object) -> VerifyReport:
    library = (tiny / "quantized.so").read_bytes()
    return verify(quantized_artifact(tmp_path / "spoiled", library, spoil))


def test_an_exact_program_has_no_mismatch(quantized: Artifact) -> None:
    report = verify(quantized)
    assert report.layers == (LayerCheck("layer", 64, 0, 0, 0, 10, 0, 0),)
    assert report.output_largest == 0.0 and report.output_range > 0


def test_wrong_codes_are_counted_and_do_not_reach_the_accumulators(
    tiny: Path, tmp_path: Path
) -> None:
    def spoil(golden: dict[str, np.ndarray]) -> None:
        golden["quantize:layer"][0, 0, :3] ^= 2  # differs by 2: no tie
        codes, acc = golden["quantize:layer"][0].astype(np.int32), golden["accumulate:layer"]
        w = np.random.default_rng(1)
        w.uniform(0, 1, (1, 64))
        acc[:] = codes @ w.integers(-8, 8, (64, 10)).astype(np.int32)

    (check,) = spoiled(tiny, tmp_path, spoil).layers
    assert (check.quantize_mismatches, check.quantize_ties, check.quantize_largest) == (3, 0, 2)
    assert check.accumulate_mismatches == 0


def test_wrong_accumulators_are_counted(tiny: Path, tmp_path: Path) -> None:
    def spoil(golden: dict[str, np.ndarray]) -> None:
        golden["accumulate:layer"][0, 4] += 5

    (check,) = spoiled(tiny, tmp_path, spoil).layers
    assert (check.accumulate_mismatches, check.accumulate_largest) == (1, 5)


def test_a_code_at_a_rounding_boundary_is_a_tie(tiny: Path, tmp_path: Path) -> None:
    def spoil(golden: dict[str, np.ndarray]) -> None:
        golden["input"][0, 0] = 2.5 / 15 + 1e-5  # scales to 2.50015
        golden["quantize:layer"][0, 0, 0] = 2
        golden["ties:layer"][0, 0, 0] = True

    (check,) = spoiled(tiny, tmp_path, spoil).layers
    assert (check.quantize_mismatches, check.quantize_ties) == (1, 1)


def test_a_golden_blob_without_a_checked_layer_is_rejected(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="lacks accumulate:layer"):
        spoiled(tiny, tmp_path, lambda golden: golden.pop("accumulate:layer"))


def test_a_kernel_table_in_another_order_is_refused(tiny: Path, tmp_path: Path) -> None:
    artifact = plain_artifact(tmp_path / "a", (tiny / "plain.so").read_bytes())
    artifact.manifest["kernels"].reverse()
    with pytest.raises(Rejected, match="which its manifest has elsewhere"):
        verify(artifact)


def test_an_artifact_without_golden_input_is_refused(tiny: Path, tmp_path: Path) -> None:
    artifact = plain_artifact(tmp_path / "a", (tiny / "plain.so").read_bytes())
    with pytest.raises(Rejected, match="no golden input"):
        verify(Artifact(artifact.root, {**artifact.manifest, "golden": None}))
