"""The store: raw measurements there and back, cache by program and board, many writers."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from host.boards.protocol import QUICK, SEARCH
from host.boards.types import Block, Measurement
from host.errors import StoreError
from host.policy import Policy, uncompressed
from host.search.episode import Episode
from host.store import MIGRATIONS, Store
from host.types import Evaluation
from tests.host.search.toy import GRAPH, evaluate


def measurement(structure: str = "s", ns: int = 1000, verdict: str = "trusted") -> Measurement:
    return Measurement(
        artifact="a",
        structure=structure,
        board="pi",
        fingerprint={"model": "Raspberry Pi 4"},
        protocol=QUICK,
        blocks=(Block(samples_ns=(ns, ns + 1, ns + 2), warmup_runs=10, settled=True),),
        verdict=verdict,  # type: ignore[arg-type]
    )


def episode(number: int) -> Episode:
    policy = uncompressed(GRAPH)
    return Episode(number, policy, evaluate(policy), 0.5)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "lab" / "store.db")


def test_a_measurement_keeps_every_sample(store: Store) -> None:
    name = store.add_measurement(measurement())
    assert store.measurement(name) == measurement()


def test_an_unknown_measurement_is_an_error(store: Store) -> None:
    with pytest.raises(StoreError, match="no measurement m-0"):
        store.measurement("m-0")


def test_the_cache_answers_for_this_program_board_and_protocol_alone(store: Store) -> None:
    name = store.add_measurement(measurement("known"))
    board = measurement().fingerprint_digest
    found = store.cached("known", board, asdict(QUICK))
    assert found is not None
    assert found[0] == name
    assert store.cached("other", board, asdict(QUICK)) is None
    assert store.cached("known", "other", asdict(QUICK)) is None
    assert store.cached("known", board, asdict(SEARCH)) is None


def test_an_invalid_measurement_is_never_served(store: Store) -> None:
    store.add_measurement(measurement("s", 1000))
    store.add_measurement(measurement("s", 9000, "invalid"))
    found = store.cached("s", measurement().fingerprint_digest, asdict(QUICK))
    assert found is not None
    assert found[1].samples_ns[0] == 1000


def test_episodes_come_back_in_order(store: Store) -> None:
    for number in (1, 0, 2):
        store.add_episode("run", episode(number))
    store.add_episode("other", episode(0))
    assert store.episodes("run") == [episode(n) for n in range(3)]


def test_the_same_episode_twice_is_refused(store: Store) -> None:
    store.add_episode("run", episode(0))
    with pytest.raises(StoreError):
        store.add_episode("run", replace(episode(0), reward=0.1))


def test_counts_come_back_for_their_setting_and_policy_alone(store: Store) -> None:
    store.keep_counts("setting", "policy", (250, 249))
    assert store.counts("setting", "policy") == (250, 249)
    assert store.counts("other", "policy") == ()
    assert store.counts("setting", "other") == ()


def test_fewer_counts_never_replace_more(store: Store) -> None:
    for counts in ((250,), (250, 249, 11), (250, 249)):
        store.keep_counts("setting", "policy", counts)
    assert store.counts("setting", "policy") == (250, 249, 11)


def _write(path: Path, worker: int) -> None:
    store = Store(path)
    for number in range(20):
        store.add_episode(f"run{worker}", episode(number))
    store.close()


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(path, i)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    store = Store(path)
    assert [len(store.episodes(f"run{i}")) for i in range(3)] == [20, 20, 20]


def test_an_older_database_is_migrated_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    db = sqlite3.connect(path)
    db.execute(MIGRATIONS[0])
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    store = Store(path)
    store.add_episode("run", episode(0))
    assert store.cached("s", "f", asdict(QUICK)) is None


def test_a_database_without_counts_gets_a_table_and_keeps_its_episodes(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    db = sqlite3.connect(path)
    for step in MIGRATIONS[:3]:
        db.execute(step)
    db.execute("PRAGMA user_version = 3")
    db.execute(
        "INSERT INTO episode VALUES (?, ?, ?, ?, ?)",
        ("run", 0, *(json.dumps(part.to_dict()) for part in _parts(episode(0))), 0.5),
    )
    db.commit()
    db.close()
    store = Store(path)
    assert store.episodes("run") == [episode(0)]
    store.keep_counts("setting", "policy", (1,))
    assert store.counts("setting", "policy") == (1,)


def _parts(made: Episode) -> tuple[Policy, Evaluation]:
    return made.policy, made.evaluation


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match="update hil-lab"):
        Store(path)


def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"hello" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store(path)


def test_boards_of_many_measurements_are_found_by_name(store: Store) -> None:
    made = [replace(measurement(f"s{i}"), board=f"pi{i % 2}") for i in range(1200)]
    names = [store.add_measurement(each) for each in made]
    found = store.boards([*names, "m-unknown"])
    assert found == {name: each.board for name, each in zip(names, made, strict=True)}


def test_one_board_answers_for_itself_alone_where_that_is_asked(store: Store) -> None:
    store.add_measurement(measurement("s"))
    fingerprint = measurement().fingerprint_digest
    assert store.cached("s", fingerprint, asdict(QUICK), "pi") is not None
    assert store.cached("s", fingerprint, asdict(QUICK), "other") is None


def test_threads_share_a_store(store: Store) -> None:
    def work(worker: int) -> list[str]:
        return [store.add_measurement(measurement(f"{worker}-{i}")) for i in range(50)]

    with ThreadPoolExecutor(4) as pool:
        names = [name for found in pool.map(work, range(4)) for name in found]
    assert len(store.boards(names)) == 200
