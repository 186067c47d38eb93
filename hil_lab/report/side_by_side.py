"""A comparison as cells and as a page: the same figures in the terminal and in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from hil_lab.report.charts import LABELS
from hil_lab.report.comparison import Entry, Group
from hil_lab.report.numbers import duration, kilobytes, millijoules, ms, percent, times
from hil_lab.report.page import HERE, environment
from hil_lab.report.svg import Axis, ErrorAxis, element, line, text, tip
from hil_lab.report.tables import interval

COLUMNS = (
    "", "test accuracy", "latency", "of fp32", "energy", "weights", "board programs",
    "evaluations", "wall time", "run",
)  # fmt: skip
BEST, LIKE_BEST, WORSE = "best", "not told apart", ""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560.0, 340.0, 64.0, 120.0, 18.0, 44.0


def title(group: Group) -> str:
    """Return what a group's programs have in common."""
    goal = "references" if group.target is None else f"target {times(group.target)}"
    return f"{group.model}, {goal}"


def cells(group: Group) -> list[list[str]]:
    """Return a row of text per program, as `COLUMNS`."""
    return [_cells(entry, mark) for entry, mark in zip(group.entries, marks(group), strict=True)]


def marks(group: Group) -> list[str]:
    """Say of every program how it stands to the most accurate one; nothing of references."""
    if group.target is None or len(group.entries) < 2:
        return [""] * len(group.entries)
    rest = [WORSE if told else LIKE_BEST for told in group.told_apart[1:]]
    return [BEST, *rest]


def _cells(entry: Entry, mark: str) -> list[str]:
    e, (low, high) = entry.evaluation, entry.accuracy_range
    found = entry.target is not None
    energy = millijoules(e.energy_mj.value) if e.energy_mj else ""
    share = f" ({times(entry.energy_share)})" if entry.energy_share and energy else ""
    milliseconds = ms(e.latency_ms.value) if e.latency_ms else ""
    return [
        name(entry),
        f"{percent(e.accuracy)} [{100 * low:.1f}, {100 * high:.1f}]" + (f" {mark}" if mark else ""),
        f"{milliseconds} [{interval(e.latency_ms)}]",
        times(entry.latency_share, 3),
        energy + share,
        f"{kilobytes(e.size_bytes)}, {times(entry.times_smaller)} smaller",
        str(entry.board_programs) if found else "",
        str(entry.evaluations) if found else "",
        duration(entry.seconds) if found else "",
        entry.run,
    ]


def name(entry: Entry) -> str:
    """Return what a program is called: its strategy and seed, or the reference that it is."""
    if entry.target is None:
        return LABELS.get(entry.name, entry.name)
    return f"{entry.strategy}, seed {entry.seed}"


def page(groups: Sequence[Group], remarks: Sequence[str]) -> str:
    """Return the comparison as one HTML page; `remarks` are what keeps the runs apart."""
    template = environment().get_template("compare.html")
    return template.render(
        groups=[(title(g), cells(g), marks(g), _picture(g)) for g in groups],
        columns=COLUMNS,
        remarks=remarks,
        style=Markup((HERE / "style.css").read_text()),
        script=Markup((HERE / "script.js").read_text()),
    )


def _picture(group: Group) -> Markup:
    """Draw accuracy against latency, with the interval of every accuracy."""
    entries = group.entries
    if group.target is None:
        return Markup("")
    bounds = [bound for entry in entries for bound in entry.accuracy_range]
    y = ErrorAxis.over(bounds, entries[0].evaluation.samples, HEIGHT - BOTTOM, TOP)
    shares = [entry.latency_share for entry in entries] + [group.target]
    margin = 0.1 * ((max(shares) - min(shares)) or max(shares))
    x = Axis(min(shares) - margin, max(shares) + margin, LEFT, WIDTH - RIGHT)
    parts = [*_frame(x, y, group.target)]
    for entry in entries:
        at, (low, high) = x(entry.latency_share), entry.accuracy_range
        said = tip(name(entry), *_cells(entry, "")[1:4])
        place = y(entry.evaluation.accuracy)
        parts += [
            line(at, y(low), at, y(high), "axis-line"),
            element(
                "circle", element("title", said), cx=at, cy=place, r=4.5, class_="episode age4"
            ),
            text(at + 8, place + 4, name(entry), "tick"),
        ]
    box = f"0 0 {WIDTH:.0f} {HEIGHT:.0f}"
    label = f"accuracy against latency of {len(entries)} programs"
    return element("svg", *parts, viewBox=box, role="img", aria_label=label)


def _frame(x: Axis, y: ErrorAxis, target: float) -> list[Markup]:
    bottom, parts = HEIGHT - BOTTOM, []
    for value in y.ticks():
        parts.append(line(LEFT, y(value), WIDTH - RIGHT, y(value), "grid"))
        parts.append(text(LEFT - 8, y(value) + 4, f"{100 * value:g} %", "tick", "end"))
    for value in x.ticks(5):
        parts.append(line(x(value), TOP, x(value), bottom, "grid"))
        parts.append(text(x(value), bottom + 18, times(value, 3), "tick", "middle"))
    parts.append(line(x(target), TOP, x(target), bottom, "target"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "latency of fp32", "axis", "middle"))
    return parts


def write(path: Path, groups: Sequence[Group], remarks: Sequence[str]) -> None:
    """Write the page."""
    path.write_text(page(groups, remarks), encoding="utf-8")
