"""Batches: boards measure while the next is built or scored; what is worth it is decided first."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pytest

from hil_lab.abreast import SideBySide, SparingSideBySide
from host.errors import BoardUnreachable
from host.evaluate import Figures
from host.policy import Policy, uncompressed, uniform_int8
from host.rack import Rack
from host.search.strategy import State
from host.types import Evaluation, Figure
from tests.hil_lab.toy_boards import ToyEvaluator, ToyMeter, rack_of, shape
from tests.host.search.toy import GRAPH, SPACE, evaluate

WHOLE, INT8 = uncompressed(GRAPH), uniform_int8(SPACE)


@dataclass
class Choosy:
    """Wants accuracies above a bar measured, and changes its mind once it is told of anything."""

    bar: float
    told: bool = False

    def ask(self) -> Policy:
        return WHOLE

    def tell(self, policy: Policy, evaluation: Evaluation) -> None:
        self.told = True

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None: ...

    def worth(self, policy: Policy, accuracy: float) -> bool:
        return accuracy > self.bar and not self.told

    def predict(self, policy: Policy) -> Figure:
        return Figure(7.0, "predicted", 6.0, 8.0)


def sparing(strategy: Choosy, rack: Rack) -> SparingSideBySide:
    def predict(policy: Policy) -> Figures:
        return Figures("", 0, strategy.predict(policy))

    return SparingSideBySide(strategy, evaluate, rack, shape, predict)


def test_policies_are_measured_at_the_same_time_and_come_in_order() -> None:
    together = threading.Barrier(2)
    one, two = ToyMeter("one", together), ToyMeter("two", together)
    with rack_of(one, two) as rack:
        found = list(SideBySide(ToyEvaluator(rack), rack, shape)([WHOLE, INT8], 0))  # type: ignore[arg-type]
    assert found == [evaluate(WHOLE), evaluate(INT8)]
    assert (one.seen, two.seen) == ([WHOLE], [INT8])


def test_the_rest_of_a_batch_goes_to_the_boards_that_the_batch_gives_it() -> None:
    one, two = ToyMeter("one"), ToyMeter("two")
    with rack_of(one, two) as rack:
        list(SideBySide(ToyEvaluator(rack), rack, shape)([INT8], 1))  # type: ignore[arg-type]
    assert (one.seen, two.seen) == ([], [INT8])


def test_what_is_known_or_asked_twice_is_not_measured_again() -> None:
    one = ToyMeter("one")
    with rack_of(one) as rack:
        evaluator = ToyEvaluator(rack)
        batch = SideBySide(evaluator, rack, shape)  # type: ignore[arg-type]
        list(batch([WHOLE, WHOLE], 0))
        list(batch([WHOLE, INT8], 0))
    assert one.seen == [WHOLE, INT8]


def test_a_sparing_strategy_decides_on_the_whole_batch_before_it_is_told() -> None:
    """Whether the second one is measured must not depend on when the first one is told."""
    one, two = ToyMeter("one"), ToyMeter("two")
    strategy = Choosy(0.5)
    with rack_of(one, two) as rack:
        found = []
        for evaluation in sparing(strategy, rack)([WHOLE, INT8], 0):
            strategy.tell(WHOLE, evaluation)
            found.append(evaluation)
    assert [e.measurements for e in found] == [("m-one",), ("m-two",)]


def test_what_is_not_worth_it_is_predicted_and_keeps_its_place() -> None:
    one, two = ToyMeter("one"), ToyMeter("two")
    bar = (evaluate(WHOLE).accuracy + evaluate(INT8).accuracy) / 2
    with rack_of(one, two) as rack:
        batch = sparing(Choosy(bar), rack)
        first, second = batch([INT8, WHOLE], 0)
    assert first.latency_ms == Figure(7.0, "predicted", 6.0, 8.0)
    assert first.measurements == ()
    assert second.measurements == ("m-two",)
    assert one.seen == []


@pytest.mark.parametrize("spares", [True, False])
def test_a_board_that_dies_costs_nothing_but_time(spares: bool) -> None:
    one, two = ToyMeter("one", fails=True), ToyMeter("two")
    with rack_of(one, two) as rack:
        batch: Any = (
            sparing(Choosy(0.0), rack) if spares else SideBySide(ToyEvaluator(rack), rack, shape)  # type: ignore[arg-type]
        )
        found = list(batch([WHOLE, INT8], 0))
    assert [e.accuracy for e in found] == [evaluate(p).accuracy for p in (WHOLE, INT8)]
    assert sorted(p.digest() for p in two.seen) == sorted(p.digest() for p in (WHOLE, INT8))


def test_without_a_board_the_search_ends_with_every_reason() -> None:
    with (
        rack_of(ToyMeter("one", fails=True), ToyMeter("two", fails=True)) as rack,
        pytest.raises(BoardUnreachable, match="no board is left: one: no answer; two: no answer"),
    ):
        list(sparing(Choosy(0.0), rack)([WHOLE], 0))
