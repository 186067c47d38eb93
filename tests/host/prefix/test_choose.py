"""Cuts are chosen by work saved per byte, within the bytes that there are."""

from __future__ import annotations

from host.prefix.calls import Call, Cut
from host.prefix.choose import worth_keeping

MACS = {0: 100, 1: 100, 2: 100, 3: 100}


def cut(place: int, image_bytes: int) -> Cut:
    name = f"m{place}"
    return Cut(place, (Call(name, 0, place, 0, 1, image_bytes),), frozenset((name,)))


def test_small_late_outputs_come_first() -> None:
    cuts = [cut(1, 64), cut(2, 64), cut(3, 16)]
    assert [c.place for c in worth_keeping(cuts, MACS, 16)] == [3]
    assert [c.place for c in worth_keeping(cuts, MACS, 80)] == [1, 3]
    assert [c.place for c in worth_keeping(cuts, MACS, 1000)] == [1, 2, 3]


def test_without_memory_nothing_is_kept() -> None:
    assert worth_keeping([cut(1, 64)], MACS, 0) == ()


def test_an_output_that_two_cuts_read_is_counted_once() -> None:
    first = cut(2, 64)
    second = Cut(3, first.before, first.live)
    assert [c.place for c in worth_keeping([first, second], MACS, 64)] == [2, 3]
