"""Drift: the anchor between jobs, quarantine, and what no longer counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from hil_lab.inventory import served
from hil_lab.simboard.board import SimSettings, sim_machine
from host.artifact import Artifact
from host.boards.drift import JOBS, SECONDS, DriftWatch
from host.boards.protocol import QUICK
from host.boards.session import BoardSession
from host.errors import BoardDrifted, BoardError
from host.meter import Meter
from host.store import Store
from tests.contracts.support import plain_artifact


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store.db")


@pytest.fixture
def anchor(library: bytes, tmp_path: Path) -> Artifact:
    return plain_artifact(tmp_path / "anchor", library, structure="anchor")


@contextmanager
def board(fault: str | None = None) -> Iterator[BoardSession]:
    machine = sim_machine("sim", SimSettings(fault=fault))
    with served(machine) as client, client.lease("me") as session:
        yield session


def program(tmp_path: Path, library: bytes, number: int) -> Artifact:
    return plain_artifact(tmp_path / f"p{number}", library, structure=f"p{number}")


def test_a_look_is_due_first_then_every_20_jobs_and_every_10_minutes(
    store: Store, anchor: Artifact
) -> None:
    now = [0.0]
    with board() as session:
        watch = DriftWatch(session, store, anchor, QUICK, clock_s=lambda: now[0])
        assert watch.due
        for _ in range(JOBS):
            watch.before_job()
        assert watch.due
        watch.before_job()
        assert not watch.due
        now[0] = SECONDS
        assert watch.due


def test_a_steady_board_agrees_with_its_baseline(store: Store, anchor: Artifact) -> None:
    with board() as session:
        watch = DriftWatch(session, store, anchor, QUICK)
        assert [watch.look() for _ in range(3)] == [1.0, 1.0, 1.0]
        assert store.quarantined("sim", session.info.fingerprint_digest) == ""


def test_a_board_that_drifted_is_quarantined_and_what_it_measured_since_is_invalid(
    store: Store, anchor: Artifact, library: bytes, tmp_path: Path
) -> None:
    with board("drift") as session:
        watch = DriftWatch(session, store, anchor, QUICK)
        meter = Meter(None, session, store, QUICK, watch=watch)  # type: ignore[arg-type]
        programs = [program(tmp_path, library, i) for i in range(7)]
        good = meter.of(programs[0])  # the look before it is the first measurement
        watch.look()
        since = [meter.of(p) for p in programs[1:6]]
        with pytest.raises(BoardDrifted, match=r"quarantined: the anchor is \+3\.0% off") as caught:
            watch.look()
        fingerprint = session.info.fingerprint_digest
    names = [figures.measurement for figures in since]
    assert set(store.invalid([good.measurement, *names])) == set(names)
    assert caught.value.invalidated >= len(names)
    assert "off its baseline" in store.quarantined("sim", fingerprint)
    assert store.cached("p0", fingerprint, asdict(QUICK)) is not None
    assert store.cached("p3", fingerprint, asdict(QUICK)) is None


def test_a_mended_board_measures_again_and_counts_again(
    store: Store, anchor: Artifact, library: bytes, tmp_path: Path
) -> None:
    first = program(tmp_path, library, 1)
    with board() as session:
        watch = DriftWatch(session, store, anchor, QUICK)
        meter = Meter(None, session, store, QUICK, watch=watch)  # type: ignore[arg-type]
        name = meter.of(first).measurement
        fingerprint = session.info.fingerprint_digest
        assert store.quarantine("sim", fingerprint, "the fan stopped") == 1
        assert store.invalid([name]) == {name: "the fan stopped"}
        watch.look()
        assert store.quarantined("sim", fingerprint) == ""
        assert meter.of(first).latency_ms.source == "measured"
        # The simulated board gives the same nanoseconds, and they are of a good day now.
        assert store.invalid([name]) == {}
        assert meter.of(first).latency_ms.source == "cached"


def test_an_anchor_that_cannot_be_measured_is_an_error_with_its_reasons(
    store: Store, anchor: Artifact
) -> None:
    with board("throttle") as session, pytest.raises(BoardError, match="anchor cannot be measured"):
        DriftWatch(session, store, anchor, QUICK).look()


def test_boards_are_watched_each_for_itself(store: Store, anchor: Artifact) -> None:
    with board() as session:
        DriftWatch(session, store, anchor, QUICK).look()
        fingerprint = session.info.fingerprint_digest
    store.quarantine("other", fingerprint, "hot")
    assert store.quarantined("sim", fingerprint) == ""
    assert store.quarantined("other", fingerprint) == "hot"
