"""A search that a fault strikes ends as one that is left alone: one fault of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hil_lab.bench.faults.boards import Setting
from hil_lab.bench.faults.kinds import FAULTS, Fault
from hil_lab.bench.faults.report import prepared
from hil_lab.bench.faults.trial import trial, undisturbed
from hil_lab.bench.faults.verdict import Judged, Kept
from hil_lab.simboard.board import KIND

pytestmark = [pytest.mark.tvm, pytest.mark.slow]

# The benchmark strikes with all of them, over and over (docs/faults.md).
# The others take longer than a test should; how soon a dead peer is noticed is the benchmark's too.
CHEAP = (
    "reset in a call", "disk full on the host", "corrupt upload", "clock jump", "two hosts",
    "database locked",
)  # fmt: skip


@pytest.fixture(scope="module")
def setting(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Setting]:
    with prepared() as (setting, _):
        yield setting


@pytest.fixture(scope="module")
def alone(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return undisturbed(setting, KIND, tmp_path_factory.mktemp("alone") / "lab")


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.name in CHEAP], ids=lambda f: f.name)
def test_a_fault_leaves_no_trace_in_the_result(
    fault: Fault, setting: Setting, alone: Kept, tmp_path: Path
) -> None:
    found = trial(setting, KIND, fault, 1, tmp_path / "lab", alone)
    assert found.bug == ""
    assert found.judged == Judged(same_policy=True, lost=0, twice=0, stale=0), found
