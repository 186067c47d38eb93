"""The board is asked for what a strategy holds to be worth it, and for nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hil_lab.sparing import Prediction, SparingEvaluator
from host.cost import ENERGY, LATENCY, SIZE, Cost
from host.evaluate import Figures
from host.policy import Policy, uncompressed
from host.search.strategy import State
from host.types import Evaluation, Figure
from tests.host.search.toy import GRAPH, evaluate

POLICY = uncompressed(GRAPH)


@dataclass
class Choosy:
    """A strategy that wants accuracies above a bar measured."""

    bar: float

    def ask(self) -> Policy:
        return POLICY

    def tell(self, policy: Policy, evaluation: Evaluation) -> None: ...

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None: ...

    def worth(self, policy: Policy, accuracy: float) -> bool:
        return accuracy > self.bar

    def predict(self, policy: Policy) -> Figure:
        return Figure(7.0, "predicted", 6.0, 8.0)


def prediction(bar: float, cost: Cost = LATENCY) -> Prediction:
    return Prediction(Choosy(bar), lambda policy: 34, lambda policy: 5.0, cost)


def evaluator(bar: float, asked: list[Policy]) -> SparingEvaluator:
    def measure(policy: Policy) -> Figures:
        asked.append(policy)
        return Figures("a", 12, Figure(9.0, "measured"), Figure(3.0, "measured"), "m-1", "trusted")

    predict = prediction(bar)
    return SparingEvaluator(Choosy(bar), lambda policy: replace(evaluate(policy)), measure, predict)


def test_what_is_worth_it_is_measured() -> None:
    asked: list[Policy] = []
    found = evaluator(0.5, asked)(POLICY)
    assert asked == [POLICY]
    assert found.latency_ms == Figure(9.0, "measured")
    assert (found.size_bytes, found.measurements, found.verdict) == (12, ("m-1",), "trusted")


def test_what_is_not_says_that_it_is_predicted() -> None:
    asked: list[Policy] = []
    found = evaluator(0.99, asked)(POLICY)
    assert asked == []
    assert found.latency_ms == Figure(7.0, "predicted", 6.0, 8.0)
    assert found.measurements == ()


def test_a_program_that_does_not_exist_has_exact_bytes_and_no_artifact() -> None:
    figures = prediction(1.0).figures(None, POLICY)  # type: ignore[arg-type]
    assert (figures.artifact, figures.size_bytes) == ("", 34)
    assert figures.latency_ms == Figure(7.0, "predicted", 6.0, 8.0)


def test_a_strategy_that_aims_at_energy_predicts_that() -> None:
    figures = prediction(1.0, ENERGY)(POLICY)
    assert figures.energy_mj == Figure(7.0, "predicted", 6.0, 8.0)
    assert figures.latency_ms == Figure(5.0, "predicted")


def test_bytes_are_counted_and_not_predicted() -> None:
    figures = prediction(1.0, SIZE)(POLICY)
    assert (figures.size_bytes, figures.energy_mj) == (34, None)
    assert figures.latency_ms == Figure(5.0, "predicted")
