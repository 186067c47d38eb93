"""The inventory: names, selectors, built-in boards, and errors that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_lab.inventory import (
    BoardEntry,
    board_names,
    open_board,
    open_pool,
    read_inventory,
    select,
    served,
)
from hil_lab.simboard.board import SimSettings
from hil_lab.simboard.names import sim_settings
from host.boards.tls import TlsFiles
from host.errors import CallerError, RecipeError
from host.supply import Supply
from host.supply.command import Settings
from tests.contracts.support import fake_machine

GOOD = '[boards.pi4-01]\nkind = "rpi4"\naddress = "192.0.2.14:7010"\ntags = ["rack1"]\n'


def read(tmp_path: Path, text: str) -> dict[str, BoardEntry]:
    path = tmp_path / "boards.toml"
    path.write_text(text)
    return read_inventory(path)


def own_files() -> TlsFiles:
    own = Path.home() / ".config" / "hil-lab"
    return TlsFiles(own / "ca.crt", own / "client.crt", own / "client.key")


def test_an_inventory_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD) == {
        "pi4-01": BoardEntry("pi4-01", "rpi4", "192.0.2.14:7010", ("rack1",), own_files())
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("tags", "tag"), r'boards\.pi4-01: unknown key "tag"; did you mean "tags"'),
        ("[board.x]", r'unknown key "board"; did you mean "boards"'),
        ('[boards.x]\nkind = "rpi4"', r"boards\.x\.address: must be given"),
        ("[boards]\nx = 3", r"boards\.x: must be a table"),
        ("not toml", "boards.toml: "),
        (GOOD.replace('["rack1"]', '"rack1"'), r"pi4-01\.tags: must be a list of strings"),
        (GOOD + "[boards.pi4-01.supply]", r"pi4-01\.supply\.kind: unknown name"),
        (GOOD + "supply = 3", r"pi4-01\.supply: must be a table"),
    ],
)
def test_a_wrong_inventory_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read(tmp_path, text)


def test_a_board_has_a_supply(tmp_path: Path) -> None:
    switch = '[boards.pi4-01.supply]\nkind = "command"\non = "plug on"\noff = "plug off"\n'
    entry = read(tmp_path, GOOD + switch)["pi4-01"]
    assert entry.supply == Supply("command", Settings(on="plug on", off="plug off"))


def test_a_missing_inventory_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such inventory"):
        read_inventory(tmp_path / "none.toml")


def test_selectors_choose_by_name_tag_and_kind(tmp_path: Path) -> None:
    inventory = read(tmp_path, GOOD)
    for selector in ("pi4-01", "tag=rack1", "kind=rpi4"):
        assert [e.name for e in select(inventory, selector)] == ["pi4-01"]
    with pytest.raises(CallerError, match='no board "pi4-02"; did you mean "pi4-01"'):
        select(inventory, "pi4-02")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sim:rpi4", SimSettings()),
        ("sim:rpi4?seed=3&clock_mhz=1500", SimSettings(3, 1500)),
        ("sim:rpi4?fault=hang", SimSettings(fault="hang")),
        ("sim:rpi4-2", SimSettings(unit=2)),
        ("sim:rpi4?pace=1", SimSettings(pace=1.0)),
        ("sim:rpi4-12?seed=3", SimSettings(3, unit=12)),
    ],
)
def test_a_simulated_board_takes_options(name: str, settings: SimSettings) -> None:
    assert sim_settings(name) == settings


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sim:rpi4?sed=3", 'unknown key "sed"; did you mean "seed"'),
        ("sim:rpi4?fault=hag", 'unknown fault "hag"; did you mean "hang"'),
        ("sim:rpi4?seed=x", "integers"),
        ("sim:rpi4?pace=fast", "pace is a number"),
        ("sim:rpi4?pace=-1", "pace is at least 0"),
        ("sim:rpi4?clock_mhz=9", "one of 1500, 1800"),
        ("sim:rpi5", 'did you mean "sim:rpi4"'),
        ("sim:rpi4-0", 'no simulated board "sim:rpi4-0"'),
        ("sim:rpi4-x", 'did you mean "sim:rpi4"'),
        ("sim:rpi4?unit=2", 'unknown key "unit"'),
        ("loacl", 'did you mean "local"'),
    ],
)
def test_a_wrong_name_gets_a_hint(name: str, message: str) -> None:
    with pytest.raises(CallerError, match=message), open_board(name, {}):
        pass


@pytest.mark.parametrize("name", ["local", "sim:rpi4"])
def test_built_in_boards_are_served_by_the_real_agent(name: str) -> None:
    with open_board(name) as client:
        assert client.describe().kind == name


def test_a_pool_opens_what_the_selector_names() -> None:
    with served(fake_machine()) as client:
        entries = {n: BoardEntry(n, "fake", client.address, ("rack",)) for n in ("a", "b")}
        with open_pool("tag=rack", "me", entries) as pool, pool.session() as session:
            assert session.info.name == "fake"
        with pytest.raises(CallerError, match="is 2 boards"), open_board("tag=rack", entries):
            pass
    with open_pool("sim:rpi4", "me") as pool, pool.session() as session:
        assert session.info.kind == "sim:rpi4"


def test_selectors_are_spelled_out_in_the_order_of_the_inventory(tmp_path: Path) -> None:
    inventory = read(tmp_path, GOOD + GOOD.replace("pi4-01", "pi4-02"))
    assert board_names(["sim:rpi4-2", "tag=rack1"], inventory) == (
        "sim:rpi4-2",
        "pi4-01",
        "pi4-02",
    )


@pytest.mark.parametrize("names", [["sim:rpi4", "sim:rpi4"], ["pi4-01", "tag=rack1"]])
def test_a_board_that_is_named_twice_is_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(CallerError, match=f'"{names[0]}" is named twice'):
        board_names(names, read(tmp_path, GOOD))


def test_simulated_boards_are_open_at_the_same_time() -> None:
    with open_board("sim:rpi4") as one, open_board("sim:rpi4-2") as two:
        with one.lease("me") as first, two.lease("me") as second:
            assert (first.info.name, second.info.name) == ("sim:rpi4", "sim:rpi4-2")
        assert one.describe().kind == two.describe().kind == "sim:rpi4"
