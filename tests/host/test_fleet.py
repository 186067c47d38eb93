"""A fleet's figure: a quantile over boards that each measured, with the spread as its bounds."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from device_agent.errors import Crashed
from host.artifact import Artifact
from host.errors import BoardError
from host.evaluate import Figures
from host.fleet import FleetMeter, combined
from host.store import Store
from host.types import Figure
from tests.contracts.support import plain_artifact
from tests.host.boards_of import SteadyRunner, meters_of

NAMES = ("one", "two", "three")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store.db")


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return plain_artifact(tmp_path / "artifact", b"no library")


def runners() -> dict[str, SteadyRunner]:
    return {name: SteadyRunner(ms=ms) for name, ms in zip(NAMES, (1.0, 4.0, 2.0), strict=True)}


@pytest.mark.parametrize(("statistic", "value"), [("median", 2.0), ("p90", 3.6)])
def test_the_figure_is_the_quantile_over_boards_within_their_spread(
    statistic: str, value: float, store: Store, artifact: Artifact
) -> None:
    with meters_of(runners(), store) as meters:
        found = FleetMeter.over(meters, statistic).of(artifact)
    assert found.latency_ms.value == pytest.approx(value)
    assert (found.latency_ms.low, found.latency_ms.high) == (1.0, 4.0)
    assert found.latency_ms.source == "measured"
    boards = [store.measurement(name).board for name in found.measurements]
    assert boards == list(NAMES)


def test_no_board_answers_for_another_of_its_fingerprint(store: Store, artifact: Artifact) -> None:
    """A rack of equal boards shares measurements; a fleet wants to know how unequal they are."""
    fakes = runners()
    with meters_of(fakes, store) as meters:
        meters[0].of(artifact)
        assert meters[1].of(artifact).latency_ms.source == "cached"
        fleet = FleetMeter.over(meters, "median")
        first, again = fleet.of(artifact), fleet.of(artifact)
    assert [len(fake.seen) for fake in fakes.values()] == [1, 1, 1]
    assert (first.latency_ms.source, again.latency_ms.source) == ("measured", "cached")
    assert again.latency_ms.value == first.latency_ms.value
    assert fleet.measured == 2


def test_all_boards_measure_at_the_same_time(store: Store, artifact: Artifact) -> None:
    together = threading.Barrier(3)
    fakes = {name: SteadyRunner(together=together) for name in NAMES}
    with meters_of(fakes, store) as meters:
        assert FleetMeter.over(meters, "median").of(artifact).verdict == "trusted"


def test_a_fleet_that_lost_a_board_is_another_fleet(store: Store, artifact: Artifact) -> None:
    fakes = runners()
    fakes["two"].fail = Crashed("the program died")
    with (
        meters_of(fakes, store) as meters,
        pytest.raises(BoardError, match=r"the program died.*needs all of its 3 boards: mend"),
    ):
        FleetMeter.over(meters, "p90").of(artifact)


def figures(verdict: str, energy: float | None) -> Figures:
    mj = None if energy is None else Figure(energy, "measured")
    return Figures("a", 1, Figure(1.0, "cached", 0.9, 1.1), mj, "m", verdict)


def test_the_worst_verdict_is_the_fleets() -> None:
    each = [figures(verdict, None) for verdict in ("trusted", "suspect", "trusted")]
    assert combined(each, 0.5).verdict == "suspect"


def test_energy_is_the_fleets_only_where_all_boards_have_a_meter() -> None:
    whole = combined([figures("trusted", 2.0), figures("trusted", 3.0)], 0.5).energy_mj
    assert whole is not None
    assert (whole.value, whole.low, whole.high) == (2.5, 2.0, 3.0)
    assert combined([figures("trusted", 2.0), figures("trusted", None)], 0.5).energy_mj is None


def test_figures_that_were_all_known_are_cached() -> None:
    assert combined([figures("trusted", None)] * 2, 0.5).latency_ms.source == "cached"
