"""The picture of a comparison: well-formed, every method named, what is far below said to be."""

from __future__ import annotations

from xml.etree import ElementTree

from hil_lab.bench.curves import Curve
from hil_lab.bench.picture import Panel, draw

SVG = "{http://www.w3.org/2000/svg}"


def curve(*rewards: float) -> Curve:
    numbers = tuple(range(10, 10 + len(rewards)))
    return Curve(rewards, numbers, numbers)


def panel(**curves: list[Curve]) -> Panel:
    return Panel("a <network>", curves)


def words(picture: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def test_every_method_is_named_with_what_it_found() -> None:
    picture = draw([panel(ours=[curve(0.5, 0.7), curve(0.6, 0.8)], other=[curve(0.2, 0.4)])])
    assert {"ours 0.750", "other 0.400", "a <network>"} <= set(words(picture))


def test_what_is_far_below_is_said_and_not_drawn() -> None:
    picture = draw([panel(ours=[curve(0.7)], far=[curve(-4.0)])])
    assert "far -4.0, below" in words(picture)
    assert len(list(ElementTree.fromstring(picture).iter(f"{SVG}polyline"))) == 1


def test_panels_lie_below_each_other_and_inside() -> None:
    root = ElementTree.fromstring(draw([panel(ours=[curve(0.7)]), panel(ours=[curve(0.2)])]))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for node in root.iter(f"{SVG}polyline"):
        points = [tuple(map(float, p.split(","))) for p in node.attrib["points"].split()]
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
