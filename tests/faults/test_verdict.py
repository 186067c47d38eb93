"""The judge of searches: each kind of harm is seen and told apart from the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hil_lab.bench.faults.trial import Outcome
from hil_lab.bench.faults.verdict import Judged, Kept, judged
from hil_lab.inventory import LOCAL
from hil_lab.simboard.board import KIND


def episode(number: int, **more: Any) -> dict[str, Any]:
    names = [f"m-{number}"]
    row = {"number": number, "policy": f"p{number}", "accuracy": 0.5, "latency_ms": float(number)}
    return {**row, "measurements": names, **more}


ALONE = Kept(
    "p1",
    (episode(0), episode(1)),
    2,
    {"m-0": "s0", "m-1": "s1"},
    {"m-0": 0.0, "m-1": 1.0},
)
WELL = Judged(same_policy=True, lost=0, twice=0, stale=0)


def test_the_same_search_is_well() -> None:
    assert judged(KIND, ALONE, ALONE) == WELL
    assert judged(LOCAL, ALONE, ALONE) == WELL


def test_no_result_is_another_policy() -> None:
    assert not judged(KIND, None, ALONE).same_policy


def test_another_best_policy_is_seen_where_numbers_are_exact() -> None:
    other = replace(ALONE, best="p0")
    assert not judged(KIND, other, ALONE).same_policy
    assert judged(LOCAL, other, ALONE).same_policy


def test_another_sequence_is_seen_everywhere() -> None:
    other = replace(ALONE, episodes=(episode(0), episode(1, policy="p9")))
    assert not judged(LOCAL, other, ALONE).same_policy


def test_a_measurement_that_is_missing_is_lost() -> None:
    other = replace(ALONE, structures={"m-0": "s0"}, latency_ms={"m-0": 0.0})
    assert judged(KIND, other, ALONE).lost == 2  # its program, and what the episode names
    assert judged(KIND, replace(ALONE, recorded=1), ALONE).lost == 1


def test_a_program_that_was_measured_again_is_counted_twice() -> None:
    other = replace(
        ALONE,
        structures={**ALONE.structures, "m-2": "s1"},
        latency_ms={**ALONE.latency_ms, "m-2": 1.0},
    )
    assert judged(LOCAL, other, ALONE).twice == 1
    assert judged(LOCAL, replace(ALONE, recorded=3), ALONE).twice == 1


def test_a_number_that_is_not_its_measurements_is_stale() -> None:
    other = replace(ALONE, latency_ms={"m-0": 0.0, "m-1": 7.0})
    assert judged(LOCAL, other, ALONE).stale == 1
    assert judged(KIND, other, ALONE).stale == 2  # nor is it the undisturbed one


def test_outcomes_survive_their_json() -> None:
    found = Outcome("link down", KIND, 1, True, True, None, "", 2, 3.5, "", WELL)
    assert Outcome.from_dict(found.to_dict()) == found
    assert found.well and not replace(found, bug="Traceback").well
