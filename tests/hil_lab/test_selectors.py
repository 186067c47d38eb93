"""Names and filters: what they choose, and what they say when they choose nothing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hil_lab.inventory import BoardEntry, board_names
from hil_lab.selectors import is_filter, matching
from host.errors import CallerError

RACK: Mapping[str, BoardEntry] = {
    name: BoardEntry(name, kind, f"192.0.2.{n}:7010", tags)
    for n, (name, kind, tags) in enumerate(
        [
            ("pi4-01", "rpi4", ("rack1", "fan")),
            ("pi4-02", "rpi4", ("rack1",)),
            ("pi4-03", "rpi4", ("rack2", "fan")),
            ("pi5-01", "rpi5", ("rack1",)),
        ]
    )
}


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("pi4-02", ["pi4-02"]),
        ("tag=rack1", ["pi4-01", "pi4-02", "pi5-01"]),
        ("kind=rpi4", ["pi4-01", "pi4-02", "pi4-03"]),
        ("tag=rack1&kind=rpi4", ["pi4-01", "pi4-02"]),
        ("tag=rack1 & tag=fan", ["pi4-01"]),
    ],
)
def test_a_selector_chooses_boards_in_the_order_of_the_inventory(
    selector: str, names: list[str]
) -> None:
    assert [entry.name for entry in matching(RACK, selector)] == names


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("pi4-0", 'no board "pi4-0"; did you mean "pi4-0'),
        ("tag=rack3", 'no board "tag=rack3": no tag rack3; did you mean "rack'),
        ("tag=rack2&kind=rpi5", "no board fits all of it"),
        ("kin=rpi4", 'unknown key "kin"; did you mean "kind"'),
        ("tag=", "write tag=NAME"),
        ("tag=rack1&", 'unknown key ""; known: kind, tag'),
    ],
)
def test_what_chooses_nothing_says_why(selector: str, message: str) -> None:
    with pytest.raises(CallerError, match=message):
        matching(RACK, selector)


def test_filters_that_overlap_count_a_board_once() -> None:
    names = board_names(["tag=rack1", "tag=fan"], RACK)
    assert names == ("pi4-01", "pi4-02", "pi5-01", "pi4-03")
    with pytest.raises(CallerError, match='"pi4-01" is named twice'):
        board_names(["tag=rack1", "pi4-01"], RACK)


def test_options_of_a_simulated_board_are_no_filter() -> None:
    assert not is_filter("sim:rpi4?seed=1")
    assert board_names(["sim:rpi4?seed=1", "kind=rpi5"], RACK) == ("sim:rpi4?seed=1", "pi5-01")
