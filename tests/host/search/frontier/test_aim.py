"""Whose turn it is: the asked targets through the design, then others in between too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from host.search.frontier.aim import Aim
from host.search.frontier.settings import FrontierSettings
from tests.host.search.toy import TARGET_MS, problem

TARGETS = (2.0 * TARGET_MS, TARGET_MS)
SETTINGS = FrontierSettings(design=4, front_every=4, between=6)


def aim(settings: FrontierSettings = SETTINGS) -> Aim:
    return Aim.of(replace(problem(), targets=TARGETS), settings)


def test_targets_ascend_and_hold_those_asked_for() -> None:
    made = aim()
    assert np.all(np.diff(made.costs) > 0)
    assert made.costs[made.asked].tolist() == pytest.approx(sorted(TARGETS))
    assert sorted([*made.asked.tolist(), *made.between]) == list(range(len(made)))


def test_the_design_serves_the_asked_targets_in_turn() -> None:
    made = aim()
    turns = [made.turn(number) for number in range(SETTINGS.design)]
    assert turns == [*made.asked.tolist()] * 2


def test_after_it_one_turn_in_four_is_another_targets() -> None:
    made = aim()
    turns = [made.turn(number) for number in range(SETTINGS.design, SETTINGS.design + 40)]
    others = [turn for turn in turns if turn not in made.asked]
    assert len(others) == 10
    assert set(others) == set(made.between)
    served = [turns.count(turn) for turn in made.asked.tolist()]
    assert served == [15, 15]


def test_one_target_with_nothing_in_between_gets_every_turn() -> None:
    alone = Aim.of(problem(), replace(SETTINGS, between=0))
    assert {alone.turn(number) for number in range(20)} == {0}
