"""Which faults strike which boards, and what the report says where a kind is missing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from hil_lab.bench.faults.kinds import FAULTS
from hil_lab.bench.faults.report import KINDS, OUTCOMES, report, strikes_of
from hil_lab.bench.faults.trial import Outcome
from hil_lab.bench.faults.verdict import Judged
from hil_lab.bench.report import Options, Report
from hil_lab.console import Silent
from hil_lab.inventory import EMULATED, LOCAL
from hil_lab.simboard.board import KIND
from host.errors import CallerError

WELL = Judged(same_policy=True, lost=0, twice=0, stale=0)
OUTCOME = Outcome("", KIND, 1, True, False, None, "", 1, 3.5, "", WELL)


def options(folder: Path, *networks: str) -> Options:
    return Options(networks, Silent(), folder=str(folder), image=str(folder / "no image"))


def keep_all(folder: Path) -> None:
    """Keep an outcome of every strike on the two kinds that need no image."""
    kept = [
        replace(OUTCOME, fault=s.fault.name, board=s.kind, seed=s.seed)
        for s in strikes_of((KIND, LOCAL), (), 6)
    ]
    (folder / OUTCOMES).write_text("".join(json.dumps(o.to_dict()) + "\n" for o in kept))


def show(found: Report, name: str) -> tuple[float, bool | None]:
    (one,) = (show for show in found.shows if show.name == name)
    return one.value, one.holds


def test_every_fault_strikes_every_round_but_an_emulated_board_once() -> None:
    count = Counter(strike.kind for strike in strikes_of(KINDS, (), 3))
    corrupt = sum(fault.corrupt > 0 for fault in FAULTS)
    assert count == {KIND: 3 * len(FAULTS), LOCAL: 3 * len(FAULTS), EMULATED: len(FAULTS) - corrupt}


def test_nobody_flips_a_bit_inside_tls() -> None:
    strikes = strikes_of(KINDS, ("corrupt upload",), 1)
    assert [strike.kind for strike in strikes] == [KIND, LOCAL]


def test_an_unknown_fault_is_refused_with_a_hint() -> None:
    with pytest.raises(CallerError, match='did you mean "power cut"'):
        list(strikes_of(KINDS, ("power cat",), 1))


def test_without_an_image_the_report_says_so_and_does_not_hold(tmp_path: Path) -> None:
    keep_all(tmp_path)
    found = report(options(tmp_path))
    assert show(found, "faults injected") == (228, True)
    assert show(found, "kinds of boards struck") == (2, False)
    assert not found.holds
    (sentence,) = found.missing
    assert sentence.startswith("faults on an emulated board: ") and "makes it" in sentence


def test_kinds_that_were_asked_for_are_all_that_is_struck(tmp_path: Path) -> None:
    keep_all(tmp_path)
    found = report(options(tmp_path, LOCAL))
    assert {outcome["board"] for outcome in found.samples["faults"]} == {LOCAL}
    assert found.missing == [] and found.holds


def test_an_emulated_board_by_name_needs_its_image(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match=r"no emulated board: .*arm64-image"):
        report(options(tmp_path, EMULATED))
